"""Liveness and readiness, on port 8055.

``/healthz`` is HIP-54's, and says that the process answers. ``/readyz`` says more: 503 while
nothing but DENY can be answered, or nobody can be answered because the SVID has ended; 200 with
``degraded`` while a bad change of the policy is left out, records can't get to the database, or the
SVID is not renewed. One bad file, a database or a SPIRE agent that is away, must not take every
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
from engine.identity import own_svid
from engine.metrics.state import spool_bytes
from engine.settings import Settings
from engine.spire.status import read_problem

Json = dict[str, Any]

_OK = 200
_UNAVAILABLE = 503
# Whoever asks more often is told the same again.
_FRESH = 0.5
# A spool that is so full is worth somebody's attention.
_FULL = 0.8
# Records are drained within a second; what waits for longer has a reason.
_WAITS = 30.0
# An SVID is renewed at half its life; one with less than this part left should have been.
_LATE = 0.25


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
    audit, identity = _audit(parts), _identity(parts.settings)
    verdict = _verdict(parts, policy, audit, identity)
    return {"status": verdict, "policy": policy, "audit": audit, "identity": identity}


def _verdict(parts: Parts, policy: Json, audit: Json, identity: Json | None) -> str:
    ended = identity is not None and identity["secondsLeft"] <= 0
    if not parts.snapshot.loaded or not audit["recording"] or ended:
        return "unavailable"
    behind = audit["error"] is not None or (audit["oldestSeconds"] or 0) > _WAITS
    full = audit["spoolBytes"] > _FULL * audit["spoolLimitBytes"]
    late = identity is not None and identity["problem"] is not None
    return "degraded" if policy["stale"] or behind or full or late else "ready"


def _identity(settings: Settings) -> Json | None:
    """The SVID that the ports are served with; ``None`` where they are without TLS."""
    if settings.svid_path is None:
        return None
    own = own_svid(settings.svid_path)
    if own is None:
        return {"spiffe": None, "ends": None, "secondsLeft": 0, "problem": "there is no SVID"}
    left = (own.ends - datetime.now(UTC)).total_seconds()
    late = left < _LATE * (own.ends - own.begins).total_seconds()
    problem = read_problem(settings.state_path) if settings.spire_socket else None
    return {
        "spiffe": own.spiffe,
        "ends": own.ends.isoformat(),
        "secondsLeft": round(left),
        "problem": problem or ("it should have been renewed" if late else None),
    }


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
