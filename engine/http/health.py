"""Liveness and readiness, on port 8055.

``/healthz`` is HIP-54's, and says that the process answers. ``/readyz`` says more: 503 while
nothing but DENY can be answered, 200 with ``degraded`` while a bad change of the policy is left out
or records can't get to the database. One bad file, or a database that is away, must not take every
replica out of service at once.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from engine.audit.status import FILE
from engine.http.parts import Parts
from engine.metrics.state import spool_bytes

Json = dict[str, Any]

_OK = 200
_UNAVAILABLE = 503
# Whoever asks more often is told the same again.
_FRESH = 0.5
# A spool that is so full is worth somebody's attention.
_FULL = 0.8
# Records are drained within a second; what waits for longer has a reason.
_WAITS = 30.0


def create_health(parts: Parts) -> Starlette:
    """The application."""
    readiness = _Readiness(parts)

    async def healthz(_request: Request) -> Response:
        return PlainTextResponse("ok")

    async def readyz(_request: Request) -> Response:
        return await readiness.response()

    return Starlette(routes=[Route("/healthz", healthz), Route("/readyz", readyz)])


@dataclass
class _Readiness:
    """What is ready, looked up now and then."""

    parts: Parts
    _until: float = 0.0
    _body: bytes = b""
    _status: int = _UNAVAILABLE
    _looking: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def response(self) -> Response:
        """The response, as it was at most a moment ago."""
        async with self._looking:
            if time.monotonic() > self._until:
                found = await asyncio.to_thread(readiness_of, self.parts)
                self._status = _UNAVAILABLE if found["status"] == "unavailable" else _OK
                self._body = orjson.dumps(found)
                self._until = time.monotonic() + _FRESH
        return Response(self._body, self._status, media_type="application/json")


def readiness_of(parts: Parts) -> Json:
    """All that is known of an evaluator's readiness. Reads files."""
    status = parts.policies.status
    age = time.time() - status.loaded_at if status.loaded_at else None
    policy = {
        "revision": parts.snapshot.revision,
        "loadedAt": _moment(status.loaded_at),
        "stale": bool(status.problems),
        "staleSeconds": round(age, 1) if status.problems and age is not None else None,
        "problems": list(status.problems),
    }
    audit = _audit(parts)
    return {"status": _verdict(parts, policy, audit), "policy": policy, "audit": audit}


def _verdict(parts: Parts, policy: Json, audit: Json) -> str:
    if not parts.snapshot.loaded or not audit["recording"]:
        return "unavailable"
    behind = audit["error"] is not None or (audit["oldestSeconds"] or 0) > _WAITS
    full = audit["spoolBytes"] > _FULL * audit["spoolLimitBytes"]
    return "degraded" if policy["stale"] or behind or full else "ready"


def _audit(parts: Parts) -> Json:
    """The spool, and how far the drainer has come."""
    settings = parts.settings
    drained = _drained(settings.state_path)
    oldest = drained.get("oldest")
    return {
        "recording": parts.is_recording,
        "durability": settings.audit.durability,
        "spoolBytes": spool_bytes(settings.state_path),
        "spoolLimitBytes": settings.audit.spool_bytes,
        "oldestSeconds": None if oldest is None else round(max(time.time() - oldest, 0.0), 1),
        "lastCommit": _moment(drained.get("last_commit")),
        "lost": drained.get("lost", 0),
        "error": drained.get("error"),
    }


def _drained(folder: Path) -> Json:
    """What the drainer last said of itself; nothing before it said anything."""
    try:
        return dict(orjson.loads((folder / FILE).read_bytes()))
    except (OSError, ValueError, TypeError):
        return {}


def _moment(seconds: float | None) -> str | None:
    return datetime.fromtimestamp(seconds, UTC).isoformat() if seconds else None
