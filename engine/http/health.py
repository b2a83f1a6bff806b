"""Liveness and readiness, on port 8055.

``/healthz`` is HIP-54's, and says that the process answers. ``/readyz`` says more: 503 while
nothing but DENY can be answered, 200 with ``degraded`` while a bad change of the policy is left
out. One bad file must not take every replica out of service at once.
"""

from __future__ import annotations

from collections.abc import Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from engine.policy.store import PolicyStore

_OK = 200
_UNAVAILABLE = 503


def create_health(store: PolicyStore, audit_available: Callable[[], bool]) -> Starlette:
    """The application."""

    async def healthz(_request: Request) -> Response:
        return PlainTextResponse("ok")

    async def readyz(_request: Request) -> Response:
        loaded, recorded = store.current.effective is not None, audit_available()
        status = "unavailable"
        if loaded and recorded:
            status = "degraded" if store.problems else "ready"
        body = {
            "status": status,
            "policy": {
                "revision": store.current.revision,
                "problems": [str(problem) for problem in store.problems],
            },
            "audit": "written" if recorded else "unavailable",
        }
        return JSONResponse(body, _OK if loaded and recorded else _UNAVAILABLE)

    return Starlette(routes=[Route("/healthz", healthz), Route("/readyz", readyz)])
