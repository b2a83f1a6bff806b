"""One worker: the API, health and gRPC on one event loop, with a spool and counters of its own."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import uvloop

from engine.audit.durability import durability_of
from engine.audit.reader import AuditReader
from engine.audit.spool import Spool
from engine.decider import Decider, View
from engine.http.answers import Answerer
from engine.http.api import create_app
from engine.http.door import Door
from engine.http.fast import Front, sweep
from engine.http.health import create_health
from engine.http.parts import Parts
from engine.locate import LocationFile
from engine.metrics.metrics import Metrics
from engine.policy.store import PolicyStore
from engine.serving import serving
from engine.settings import Durability, Settings, Transport
from engine.sockets import Sockets
from engine.tls import SvidFiles
from zt.wellknown import EVALUATOR_API

_POLL = 0.25
# Seconds between stretches of opening a table, which holds up the loop meanwhile.
_REST = 0.001
# Seconds that a thread may keep the loop from answering at a time.
_SWITCH = 0.0005
# Objects made and kept, before the collector looks at the young ones.
_COLLECT_AFTER = 50_000

_log = logging.getLogger(__name__)


def work(settings: Settings, sockets: Sockets) -> int:
    """Serve until SIGTERM; the exit code."""
    sys.setswitchinterval(_SWITCH)
    uvloop.run(_work(settings, sockets))
    return 0


async def _work(settings: Settings, sockets: Sockets) -> None:
    async with AsyncExitStack() as stack:
        spool = Spool(
            settings.spool,
            segment_bytes=settings.audit.segment_bytes,
            limit_bytes=settings.audit.spool_bytes,
            mapped=settings.audit.durability is Durability.PROCESS,
        )
        stack.callback(spool.close)
        inputs = _Inputs(
            PolicyStore(settings.policy, partial(time.sleep, _REST)),
            LocationFile(settings.locations),
        )
        inputs.refresh()
        durability = durability_of(settings.audit.durability, spool)
        stack.push_async_callback(durability.close)
        decider = Decider(inputs.view(), spool, durability, Metrics(settings.metrics))
        await stack.enter_async_context(_following(inputs, decider))
        reader = AuditReader(settings.audit.dsn)
        stack.push_async_callback(reader.close)
        parts = Parts(settings, inputs.policies, decider, reader)
        await stack.enter_async_context(_served(parts, settings, sockets))
        _freeze()
        _say_ports(sockets)
        await _until_told()


@dataclass
class _Inputs:
    """What may change while a worker runs: the policy and the table of pods."""

    policies: PolicyStore
    locations: LocationFile

    def refresh(self) -> bool:
        """Look for changes; whether there were any."""
        changed = self.policies.refresh()
        return self.locations.refresh() or changed

    def view(self) -> View:
        """What is in force now."""
        return View(self.policies.current, self.locations.current)


@asynccontextmanager
async def _following(inputs: _Inputs, decider: Decider) -> AsyncIterator[None]:
    """Look for changes: no other sign of one is the same on every kind of mount."""

    async def follow() -> None:
        while True:
            await asyncio.sleep(_POLL)
            try:
                # In a thread: a large table takes milliseconds, in which others are answered.
                if await asyncio.to_thread(inputs.refresh):
                    decider.view = inputs.view()
            except Exception:  # noqa: BLE001 - whatever it is, decisions go on
                # What was read last stays in force, and the next change is seen.
                _log.exception("policies or locations could not be read again")

    task = asyncio.create_task(follow(), name="follow")
    try:
        yield
    finally:
        task.cancel()


@asynccontextmanager
async def _served(parts: Parts, settings: Settings, sockets: Sockets) -> AsyncIterator[None]:
    """The API, health and gRPC."""
    svid = SvidFiles(settings.svid_path) if settings.svid_path else None
    front = partial(Front, Answerer(parts.decider), _door(parts))
    async with AsyncExitStack() as stack:
        tls = svid.server_context(["http/1.1"]) if svid and settings.api_tls else None
        api = serving(create_app(parts), sockets.api, front, tls=tls, sweep=sweep)
        await stack.enter_async_context(api)
        await stack.enter_async_context(serving(create_health(parts), sockets.health))
        serve = _grpc_server(settings.transport)
        await stack.enter_async_context(serve(sockets.grpc, parts.decider, svid))
        yield


def _door(parts: Parts) -> Door | None:
    """Who decides about the callers of the API, which without TLS are this machine's."""
    if parts.settings.api_tls is None:
        return None
    # The policy knows the API by this port, wherever a developer has it listen.
    return Door(parts.decider, parts.identity or "", EVALUATOR_API, socket.gethostname())


def _grpc_server(transport: Transport) -> Callable[..., Any]:
    """What serves gRPC; imported only where it does."""
    if transport is Transport.GRPCIO:
        from engine.envoy import fallback  # noqa: PLC0415

        return fallback.serve
    from engine.envoy import http2  # noqa: PLC0415

    return http2.serve


async def _until_told() -> None:
    """Wait for SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()


def _say_ports(sockets: Sockets) -> None:
    _log.info("answers on ports %d (API), %d (health), %d (gRPC)", *sockets.ports())


def _freeze() -> None:
    """What was made until now stays: the collector need not look at it again.

    Nor often at what comes: a question makes objects by the dozen, and hardly ever a cycle.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER)
