"""gRPC for Envoy, on one event loop: as many Checks a second as a core can decide and record.

HTTP/2 itself is libnghttp2 by way of ``ngh2``, which does no I/O; ``engine.envoy.connection`` gives
it sockets, gRPC and limits. grpcio would carry the same calls at a fraction of the rate
(``benchmarks.check`` has figures), and does where ngh2 must not be used: ``engine.envoy.fallback``.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

from engine.decider import Decider
from engine.envoy.calls import RETRY
from engine.envoy.connection import PROTOCOL, Connection
from engine.envoy.service import Limits, Service
from engine.tls import SvidFiles

_LIMITS = Limits()
_BACKLOG = 4096
_HANDSHAKE_SECONDS = 10.0
_TLS_END_SECONDS = 2.0
# Seconds for what a client sent before it heard that we stop, and between two looks.
_UNDER_WAY = 0.05
_LOOK = 0.01


@contextlib.asynccontextmanager
async def serve(
    listening: socket.socket,
    decider: Decider,
    svid: SvidFiles | None,
    *,
    limits: Limits = _LIMITS,
    grace: float = 1.0,
) -> AsyncIterator[None]:
    """Answer on a listening socket; mutual TLS with an SVID.

    On leaving, no more calls are taken, and what is in flight has ``grace`` seconds to be answered.
    """
    service = Service(decider, limits, tls=svid is not None)
    options: dict[str, Any] = {}
    if svid is not None:
        options = {
            "ssl": svid.server_context([PROTOCOL]),
            "ssl_handshake_timeout": _HANDSHAKE_SECONDS,
            "ssl_shutdown_timeout": _TLS_END_SECONDS,
        }
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(service), sock=listening, backlog=_BACKLOG, **options
    )
    sweeping = asyncio.create_task(_sweep(service), name="sweep")
    # It has to wait from before the end on, or it would not.
    closed = asyncio.create_task(server.wait_closed(), name="closed")
    try:
        yield
    finally:
        server.close()
        sweeping.cancel()
        await _stop(service, grace)
        # Whoever is in the middle of a handshake is no connection of the service yet.
        await asyncio.wait([closed], timeout=grace)
        closed.cancel()


async def _sweep(service: Service) -> None:
    """Do what is due by time."""
    while True:
        await asyncio.sleep(RETRY)
        service.sweep()


async def _stop(service: Service, grace: float) -> None:
    """End all connections in the order that loses nothing."""
    for connection in list(service.connections):
        connection.leave()
    await asyncio.sleep(_UNDER_WAY if service.connections else 0)
    await _until(lambda: not any(one.busy for one in service.connections), grace)
    for connection in list(service.connections):
        connection.end_streams()
    await asyncio.sleep(_UNDER_WAY if service.connections else 0)
    for connection in list(service.connections):
        connection.finish()
    await _until(lambda: not service.connections, grace)
    for connection in list(service.connections):
        connection.abort()
    service.give_up()


async def _until(holds: Callable[[], bool], seconds: float) -> None:
    """Wait until something holds, but no longer."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while not holds():  # noqa: ASYNC110 - seen once, at the end
                await asyncio.sleep(_LOOK)
