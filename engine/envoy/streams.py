"""The streams of one connection: gRPC calls, each by itself.

What is wrong with a stream ends that stream; what libnghttp2 can't go on from is raised.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, cast

import ngh2
from ngh2 import DataReceived, RequestReceived, StreamClosed

from engine.envoy.accesslog import PIECE, TAKEN, Reports
from engine.envoy.authz import Held
from engine.envoy.calls import ACCESS_LOGS, CHECK, PREFIX, CallError, Code, Inbox
from engine.envoy.channel import Channel, channel_of
from engine.envoy.service import Service

# Bytes that a stream may send before they are taken.
WINDOW = 64 << 10
# Bytes of messages that are not complete, of all streams together.
_INCOMPLETE = 4 << 20
# Different headers of Checks that are remembered.
_ROUTES = 16
# Frames between two sweeps that ask for nothing: pings, settings, windows, empty data.
_NOISE = 5000

_HEADERS = ((b":status", b"200"), (b"content-type", b"application/grpc"))
_OK = ((b"grpc-status", b"0"),)
_CONTENT_TYPE = b"application/grpc"
_CHECK, _ACCESS_LOGS = CHECK.encode(), ACCESS_LOGS.encode()
_PREFIX_SIZE = PREFIX.size
_prefix = PREFIX.unpack_from

_log = logging.getLogger(__name__)

Headers = tuple[ngh2.Header, ...]


class Carrier(Protocol):
    """The connection, as far as its streams have to do with it."""

    def run(self, do: Callable[[], None], *, soon: bool = False) -> None:
        """Do something, unless the connection has ended, and write what comes of it.

        ``soon``: write it at the end of this turn of the event loop, with what else comes.
        """

    def flush(self) -> None:
        """Write all that is ready."""

    def close_soon(self) -> None:
        """Close, once all is written."""


class _Route:
    """What the headers of a Check say; connections send the same ones again and again."""

    __slots__ = ("channel",)

    def __init__(self, channel: Channel) -> None:
        self.channel = channel


@dataclass(slots=True)
class _Call:
    """A call that takes more than one frame. ``reports`` is ``None`` for a Check.

    ``since`` is when its incomplete message began, ``stopped`` whether the peer may send no more
    for now, ``ended`` whether it has said all, ``answered`` whether we have.
    """

    channel: Channel
    since: float
    reports: Reports | None = None
    inbox: Inbox = field(default_factory=Inbox)
    stopped: bool = False
    ended: bool = False
    answered: bool = False


def _is_stream(call: _Route | _Call) -> bool:
    return type(call) is _Call and call.reports is not None


class Streams:
    """The streams."""

    __slots__ = (
        "_calls",
        "_carrier",
        "_check",
        "_headers",
        "_held",
        "_http",
        "_route",
        "_routes",
        "_service",
        "noise",
        "peer",
        "seen",
        "settled",
    )

    def __init__(self, service: Service, http: ngh2.Connection, carrier: Carrier) -> None:
        """None is open yet. ``peer`` is the SPIFFE ID that the other end has proved."""
        self._service = service
        self._check = service.authorization.check
        self._http = http
        self._carrier = carrier
        self.peer: str | None = None
        self._calls: dict[int, _Route | _Call] = {}
        # Of the latest Check, and of a few: a sidecar has as many as it has ports.
        self._headers: Headers = ()
        self._route: _Route = _Route(channel_of({}, ""))
        self._routes: dict[Headers, _Route] = {}
        # Answers that wait for their records to be safe.
        self._held = 0
        self.noise = 0
        # When the last call was opened; whether the peer has sent its settings.
        self.seen = service.now
        self.settled = False

    @property
    def busy(self) -> bool:
        """Whether a Check is in flight."""
        checks = (call for call in self._calls.values() if not _is_stream(call))
        return self._held > 0 or any(True for _ in checks)

    @property
    def idle(self) -> bool:
        """Whether no call is open."""
        return not self._calls and not self._held

    def sweep(self) -> None:
        """Do what is due by time."""
        now, limit = self._service.now, self._service.limits.request
        for stream_id, call in list(self._calls.items()):
            if type(call) is _Route:
                self._calls[stream_id] = _Call(call.channel, now)
            elif type(call) is _Call:
                if call.reports is not None and call.reports.failed:
                    call.since = now
                    self._guard(stream_id, partial(self._go_on, stream_id, call))
                elif call.reports is not None and not len(call.inbox):
                    call.since = now
                elif now - call.since > limit:
                    self._refuse(stream_id, Code.DEADLINE_EXCEEDED, "the message did not come")

    def end(self) -> None:
        """Answer the streams that the peer would never end; what is under way is still taken."""
        for stream_id, call in self._calls.items():
            if type(call) is _Call and call.reports is not None and not call.answered:
                call.answered = True
                self._send_status(stream_id, Code.UNAVAILABLE, "the evaluator stops")

    def lose(self) -> None:
        """The connection is gone: what was reported stays to be recorded."""
        for call in self._calls.values():
            if type(call) is _Call:
                self._leave_reports(call)
        self._calls.clear()

    # --- Reading ----------------------------------------------------------------------------------

    def take(self, events: list[ngh2.Event]) -> None:
        """Handle what came; the common cases are here, because each call costs."""
        calls = self._calls
        for event in events:
            if type(event) is DataReceived:
                stream_id, data = event.stream_id, event.data
                call = calls.get(stream_id)
                if (
                    type(call) is _Route
                    and event.end_stream
                    and len(data) >= _PREFIX_SIZE
                    and _prefix(data) == (0, len(data) - _PREFIX_SIZE)
                ):
                    del calls[stream_id]
                    self._answer(stream_id, data[_PREFIX_SIZE:], call.channel)
                else:
                    self._guard(stream_id, partial(self._take_piece, event))
            elif type(event) is RequestReceived:
                if event.headers == self._headers and not event.end_stream:
                    calls[event.stream_id] = self._route
                else:
                    self._guard(event.stream_id, partial(self._open, event))
                self.seen = self._service.now
            elif type(event) is StreamClosed:
                if calls:
                    self._forget(event.stream_id)
            else:
                self._take_other(event)

    def _take_other(self, event: ngh2.Event) -> None:
        if isinstance(event, ngh2.ConnectionClosed):
            self._carrier.close_soon()
        elif isinstance(event, ngh2.TrailersReceived):
            self._guard(event.stream_id, partial(self._end, event.stream_id))
        elif isinstance(event, ngh2.SettingsReceived):
            self.settled = True
        self._disturb()

    def _disturb(self) -> None:
        self.noise += 1
        if self.noise > _NOISE:
            raise ngh2.DenialOfServiceError("frames that ask for nothing")

    def _open(self, event: RequestReceived) -> None:
        """Route a call by its headers."""
        stream_id, headers = event.stream_id, event.headers
        known = self._routes.get(headers)
        if known is not None and not event.end_stream:
            self._headers, self._route = headers, known
            self._calls[stream_id] = known
            return
        fields = dict(headers)
        if fields.get(b":method") != b"POST":
            self._refuse_http(stream_id, b"405")
            return
        if not fields.get(b"content-type", b"").startswith(_CONTENT_TYPE):
            self._refuse_http(stream_id, b"415")
            return
        path = fields.get(b":path")
        channel = channel_of(fields, self.peer)
        if path == _CHECK:
            self._calls[stream_id] = self._learn(headers, channel)
        elif path == _ACCESS_LOGS:
            reports = Reports(self._service.decider, channel)
            self._calls[stream_id] = _Call(channel, self._service.now, reports)
        else:
            raise CallError(Code.UNIMPLEMENTED, "there is no such method")
        if event.end_stream:
            self._end(stream_id)

    def _learn(self, headers: Headers, channel: Channel) -> _Route:
        if len(self._routes) >= _ROUTES:
            self._routes.clear()
        route = self._routes[headers] = _Route(channel)
        return route

    def _take_piece(self, event: DataReceived) -> None:
        """Take DATA that is not just one Check."""
        stream_id, data = event.stream_id, event.data
        if not data:
            self._disturb()
        call = self._calls.get(stream_id)
        if type(call) is _Route:
            call = self._calls[stream_id] = _Call(call.channel, self._service.now)
        if type(call) is not _Call:
            return
        if not len(call.inbox):
            call.since = self._service.now
        call.inbox.add(data)
        self._require_room()
        if call.reports is not None and not call.reports.waiting:
            self._go_on(stream_id, call)
        if event.end_stream:
            self._end(stream_id)

    def _require_room(self) -> None:
        waiting = (len(call.inbox) for call in self._calls.values() if type(call) is _Call)
        if sum(waiting) > _INCOMPLETE:
            raise CallError(Code.RESOURCE_EXHAUSTED, "too much is incomplete on this connection")

    def _end(self, stream_id: int) -> None:
        """The peer has said all."""
        call = self._calls.get(stream_id)
        if type(call) is _Route:
            call = self._calls[stream_id] = _Call(call.channel, self._service.now)
        if type(call) is not _Call or call.ended:
            return
        call.ended = True
        if call.reports is None:
            message = call.inbox.next()
            if message is None or len(call.inbox):
                raise CallError(Code.INTERNAL, "a Check is one message")
            del self._calls[stream_id]
            self._answer(stream_id, message, call.channel)
        elif not call.reports.waiting:
            self._go_on(stream_id, call)

    # --- Errors -----------------------------------------------------------------------------------

    def _guard(self, stream_id: int, do: Callable[[], None]) -> None:
        """Do something for a stream; what is wrong with it ends that stream alone."""
        try:
            do()
        except Exception as error:  # noqa: BLE001 - all are told apart there
            self._go_wrong(stream_id, error)

    def _go_wrong(self, stream_id: int, error: Exception) -> None:
        if isinstance(error, CallError):
            self._refuse(stream_id, error.code, error.message)
        elif isinstance(error, ngh2.StreamProtocolError):
            # It is gone: the peer has reset it.
            self._forget(stream_id)
        elif isinstance(error, ngh2.NGH2Error):
            raise error
        else:
            _log.error("a call failed", exc_info=error)
            self._refuse(stream_id, Code.INTERNAL, "the evaluator failed")

    def _refuse(self, stream_id: int, code: Code, message: str) -> None:
        """End a stream with a status; the peer need not say the rest."""
        call = self._calls.pop(stream_id, None)
        if type(call) is _Call:
            self._leave_reports(call)
        self._send_status(stream_id, code, message)
        self._reset(stream_id)

    def _refuse_http(self, stream_id: int, status: bytes) -> None:
        self._http.send_response(stream_id, ((b":status", status),), end_stream=True)
        self._reset(stream_id)

    def _send_status(self, stream_id: int, code: Code, message: str) -> None:
        status = (b"grpc-status", b"%d" % code), (b"grpc-message", message.encode())
        with contextlib.suppress(ngh2.StreamProtocolError):  # gone before
            self._http.send_response(stream_id, _HEADERS + status, end_stream=True)

    def _reset(self, stream_id: int) -> None:
        # A reset overtakes what is queued.
        self._carrier.flush()
        self._http.reset_stream(stream_id, ngh2.ErrorCode.NO_ERROR)

    def _forget(self, stream_id: int) -> None:
        call = self._calls.pop(stream_id, None)
        if type(call) is _Call:
            self._leave_reports(call)

    # --- Checks -----------------------------------------------------------------------------------

    def _answer(self, stream_id: int, message: bytes, channel: Channel) -> None:
        """Answer a Check, now or when its record is safe."""
        try:
            answer = self._check(message, channel)
            if type(answer) is not bytes:
                self._hold(stream_id, cast("Held", answer))
                return
            http = self._http
            http.send_response(stream_id, _HEADERS)
            http.send_data(stream_id, answer)
            http.send_trailers(stream_id, _OK)
        except Exception as error:  # noqa: BLE001 - all are told apart there
            self._go_wrong(stream_id, error)

    def _send_answer(self, stream_id: int, answer: bytes) -> None:
        http = self._http
        http.send_response(stream_id, _HEADERS)
        http.send_data(stream_id, answer)
        http.send_trailers(stream_id, _OK)

    def _hold(self, stream_id: int, answer: Held) -> None:
        self._held += 1
        answer.then(partial(self._give, stream_id))

    def _give(self, stream_id: int, answer: bytes) -> None:
        """Give an answer that was held; its stream may be gone."""
        self._held -= 1
        give = partial(self._send_answer, stream_id, answer)
        self._carrier.run(partial(self._guard, stream_id, give), soon=True)

    # --- Access logs ------------------------------------------------------------------------------

    def _go_on(self, stream_id: int, call: _Call) -> None:
        """Record what a sidecar reports, a piece at a time, and let it send as much again."""
        reports = call.reports
        if reports is None or self._calls.get(stream_id) is not call:
            return
        budget = PIECE
        while budget > 0:
            budget -= 1 + reports.waiting
            if not reports.record():
                break
            message = call.inbox.next()
            if message is None:
                self._go_idle(stream_id, call)
                return
            reports.take(message)
        if not call.stopped:
            call.stopped = True
            self._http.set_local_window_size(0, stream_id=stream_id)
        if not reports.failed:
            self._service.loop.call_soon(self._go_on_later, stream_id, call)

    def _go_on_later(self, stream_id: int, call: _Call) -> None:
        go_on = partial(self._go_on, stream_id, call)
        self._carrier.run(partial(self._guard, stream_id, go_on))

    def _go_idle(self, stream_id: int, call: _Call) -> None:
        """All that came is recorded."""
        if not call.ended:
            if call.stopped:
                call.stopped = False
                self._http.set_local_window_size(WINDOW, stream_id=stream_id)
            return
        del self._calls[stream_id]
        if len(call.inbox):
            raise CallError(Code.INTERNAL, "a message is incomplete")
        if not call.answered:
            self._send_answer(stream_id, TAKEN)

    def _leave_reports(self, call: _Call) -> None:
        """The stream is gone; what it brought is still recorded."""
        reports = call.reports
        if reports is None:
            return
        try:
            while (message := call.inbox.next()) is not None:
                reports.take(message)
        except CallError as error:
            _log.info("%s reports what can't be read: %s", call.channel.peer, error.message)
        if reports.waiting:
            self._service.keep(reports)
