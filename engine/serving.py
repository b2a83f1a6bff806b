"""HTTP on a listening socket that others share."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import uvicorn

_GRACE = 5
_SWEEP = 1.0

# Closes those of a server's connections that are not used: given them, and the loop's time.
Sweep = Callable[[Any, float], None]


@asynccontextmanager
async def serving(
    app: Any,  # noqa: ANN401 - ASGI
    listening: socket.socket,
    protocol: Any = "httptools",  # noqa: ANN401 - a name, or a protocol class
    *,
    tls: ssl.SSLContext | None = None,
    sweep: Sweep | None = None,
) -> AsyncIterator[None]:
    """Serve an application, with ``sweep`` called each second."""
    config = uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE,
    )
    config.load()
    config.ssl = tls
    server = _Server(config)
    tasks = [asyncio.create_task(server.serve(sockets=[listening]), name="http")]
    if sweep is not None:
        tasks.append(asyncio.create_task(_sweeping(server, sweep), name="sweep"))
    try:
        yield
    finally:
        for task in tasks[1:]:
            task.cancel()
        server.should_exit = True
        await tasks[0]


class _Server(uvicorn.Server):
    """Leaves signals to whoever serves: there are several of these in a process."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


async def _sweeping(server: uvicorn.Server, sweep: Sweep) -> None:
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(_SWEEP)
        sweep(server.server_state.connections, loop.time())
