"""The admission webhook's port: a process of its own, which no decision waits for.

A Kubernetes API server has no SVID, so no certificate is asked of clients; what is answered depends
on the request and the policy alone. What a pod becomes is ``engine.admission``'s to say.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from engine.http.bodies import body_of
from engine.http.problems import Refused
from engine.serving import serving
from engine.settings import Settings
from engine.tls import SvidFiles

PATH = "/inject"
# A pod is a megabyte and a half in etcd at most, and comes with the one before it, if any.
MOST_BYTES = 3 << 20
# API servers give up after 30 s at the latest, most after 10.
REQUEST_PATIENCE = 8.0
# Longer than an API server keeps a connection that it doesn't use (90 s), so that it closes first.
IDLE_PATIENCE = 120.0
MOST_CONNECTIONS = 256
_MOST_TOGETHER = 48 << 20
_THREADS = 4

_log = logging.getLogger(__name__)

Review = Callable[[bytes], bytes]


def run(settings: Settings, listening: socket.socket) -> int:
    """Answer API servers until SIGTERM."""
    uvloop.run(_run(settings, listening))
    return 0


async def _run(settings: Settings, listening: socket.socket) -> None:
    from engine.admission import handler  # noqa: PLC0415 - where it is served alone

    assert settings.svid_path is not None  # noqa: S101 - as settings require of a webhook
    tls = SvidFiles(settings.svid_path).server_context(["http/1.1"], mutual=False)
    app = create_webhook(handler(settings))
    serve = serving(app, listening, Patient, tls=tls, sweep=close_idle)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with serve:
        _log.info("the webhook answers on port %d", listening.getsockname()[1])
        await stop.wait()


def create_webhook(review: Review) -> Starlette:
    """The application: ``review`` is called in threads, with bodies that are whole."""
    desk = _Desk(review)
    return Starlette(routes=[Route(PATH, desk.answer, methods=["POST"])])


@dataclass
class _Desk:
    """Bounds what is held at a time: bytes of bodies, and threads."""

    review: Review
    held: int = 0
    threads: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(_THREADS, "review")
    )

    async def answer(self, request: Request) -> Response:
        """The review of one pod. Every refusal lets the API server's ``failurePolicy`` decide."""
        length = request.headers.get("content-length", "")
        needed = min(int(length), MOST_BYTES) if length.isdigit() else MOST_BYTES
        if self.held + needed > _MOST_TOGETHER:
            return PlainTextResponse("too much is being reviewed: try again", 429)
        self.held += needed
        try:
            return await self._reviewed(request)
        finally:
            self.held -= needed

    async def _reviewed(self, request: Request) -> Response:
        try:
            body = await body_of(request, MOST_BYTES, REQUEST_PATIENCE)
        except Refused as refused:
            return PlainTextResponse(refused.problem.title, refused.problem.status)
        loop = asyncio.get_running_loop()
        try:
            answer = await loop.run_in_executor(self.threads, self.review, body)
        except ValueError as error:
            return PlainTextResponse(str(error), 400)
        except Exception:  # noqa: BLE001 - whatever it is, the API server gets an answer
            _log.exception("a pod could not be reviewed")
            return PlainTextResponse("the review failed: see the evaluator's log", 500)
        return Response(answer, media_type="application/json")


class Patient(HttpToolsProtocol):
    """A connection that knows since when it waits for the rest of a request, or for another."""

    def connection_made(self, transport: Any) -> None:  # noqa: ANN401 - uvicorn names it narrower
        """A connection begins."""
        super().connection_made(transport)
        self.since = self.loop.time()
        # A connection is opened to ask something.
        self.waits = True
        if len(self.connections) > MOST_CONNECTIONS:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        """Note when a request begins; what follows of it does not prolong its time."""
        if not self.waits:
            self.since, self.waits = self.loop.time(), True
        super().data_received(data)

    def on_message_complete(self) -> None:
        """A request is there."""
        super().on_message_complete()
        self.since, self.waits = self.loop.time(), False

    def is_over(self, now: float) -> bool:
        """Whether a request does not come to its end, or none comes."""
        waited = now - self.since
        if self.waits:
            return waited > REQUEST_PATIENCE
        cycle: RequestResponseCycle | None = self.cycle
        answered = cycle is None or cycle.response_complete
        return answered and waited > IDLE_PATIENCE


def close_idle(connections: Iterable[Any], now: float) -> None:
    """Close connections that are over."""
    for connection in [found for found in connections if found.is_over(now)]:
        connection.transport.close()
