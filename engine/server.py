"""All three ports in one process and one event loop."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import grpc
import uvicorn
from envoy.service.accesslog.v3.als_pb2_grpc import add_AccessLogServiceServicer_to_server
from envoy.service.auth.v3.external_auth_pb2_grpc import add_AuthorizationServicer_to_server

from engine.envoy.accesslog import AccessLog
from engine.http.api import Parts, create_app
from engine.audit import AuditWriter
from engine.envoy.authz import Authorization
from engine.decider import Decider
from engine.http.health import create_health
from engine.locate import LocationFile
from engine.metrics.metrics import Metrics
from engine.settings import Listen, Settings
from engine.policy.store import PolicyStore
from engine.tls import SvidFiles
from engine.audit.reader import AuditReader

_POLL = 1.0
_GRACE = 5
# A Check is answered within a second; the streams of access logs would never end by themselves.
_GRPC_GRACE = 1

_log = logging.getLogger(__name__)


class ListenError(Exception):
    """A port can't be had; the message is one sentence."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the engine listens, as the system gave it."""

    api: int
    health: int
    grpc: int


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Ports]:
    """The evaluator, up and answering; on leaving, what is in flight is answered first.

    Raises:
        ListenError: if a port is taken.
        engine.tls.SvidError: if the SVID can't be used.
    """
    store = PolicyStore(settings.policy_path, lambda: datetime.now(UTC).date())
    locations = LocationFile(settings.locations_path)
    writer, reader = AuditWriter(settings.audit_dsn), AuditReader(settings.audit_dsn)
    decider = Decider(lambda: store.current, lambda: locations.current, writer, Metrics())

    def refresh() -> None:
        store.refresh()
        locations.refresh()

    def audit_available() -> bool:
        return writer.available

    parts = Parts(store, decider, reader, audit_available)
    async with AsyncExitStack() as stack:
        await asyncio.to_thread(refresh)
        sockets = [stack.enter_context(_listening(at)) for at in (settings.api, settings.health)]
        await writer.start()
        stack.push_async_callback(writer.stop)
        await stack.enter_async_context(_polling(refresh))
        grpc_port = await stack.enter_async_context(_grpc(settings, decider))
        apps = create_app(parts), create_health(store, audit_available)
        for app, listening in zip(apps, sockets, strict=True):
            await stack.enter_async_context(_http(app, listening))
        api, health = (listening.getsockname()[1] for listening in sockets)
        _log.info("answers on ports %d (API), %d (health), %d (gRPC)", api, health, grpc_port)
        yield Ports(api, health, grpc_port)
        _log.info("stops")


async def until_signal() -> None:
    """Wait for SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()


@asynccontextmanager
async def _polling(refresh: Callable[[], None]) -> AsyncIterator[None]:
    """Look for changed files: no other sign of a change is the same on every kind of mount."""

    async def poll() -> None:
        while True:
            await asyncio.sleep(_POLL)
            try:
                await asyncio.to_thread(refresh)
            except Exception:  # noqa: BLE001 - whatever it is, decisions go on
                # What was read last stays in force, and the next change is seen.
                _log.exception("policies or locations could not be read again")

    task = asyncio.create_task(poll(), name="poll")
    try:
        yield
    finally:
        task.cancel()


@asynccontextmanager
async def _grpc(settings: Settings, decider: Decider) -> AsyncIterator[int]:
    """Check and the access log on one port."""
    # Otherwise a second engine could share the port, unseen.
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    add_AuthorizationServicer_to_server(Authorization(decider), server)
    add_AccessLogServiceServicer_to_server(AccessLog(decider), server)
    with _listening(settings.grpc):
        pass  # says what is wrong with the port; gRPC does not
    address = str(settings.grpc)
    if settings.svid_path is None:
        port = server.add_insecure_port(address)
    else:
        port = server.add_secure_port(address, SvidFiles(settings.svid_path).credentials())
    await server.start()
    try:
        yield port
    finally:
        await server.stop(_GRPC_GRACE)


class _Server(uvicorn.Server):
    """Leaves signals to ``until_signal``: there are two of these in the process."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


@asynccontextmanager
async def _http(app: Any, listening: socket.socket) -> AsyncIterator[None]:  # noqa: ANN401 - ASGI
    config = uvicorn.Config(
        app,
        lifespan="off",
        access_log=False,
        log_config=None,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listening]), name="http")
    try:
        yield
    finally:
        server.should_exit = True
        await task


@contextmanager
def _listening(at: Listen) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in at.host else socket.AF_INET
    try:
        listening = socket.create_server((at.host, at.port), family=family, backlog=2048)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ListenError(f"{at} is in use: stop what listens there, or set a port") from None
        raise ListenError(f"cannot listen on {at}: {os.strerror(error.errno or 0)}") from None
    with listening:
        yield listening
