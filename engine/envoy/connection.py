"""One HTTP/2 connection of a sidecar: gRPC's frames, and what a connection may do to us.

Nobody disturbs anybody else: what is wrong with a stream ends that stream, what is wrong with a
connection ends that connection, and each gives way to the others after a bounded piece of work. No
exception gets to the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import cast

import ngh2
from ngh2 import DataReceived, RequestReceived, StreamClosed

from engine.decider import Decider
from engine.envoy.accesslog import PIECE, TAKEN, Reports
from engine.envoy.authz import Authorization, Held
from engine.envoy.calls import ACCESS_LOGS, CHECK, PREFIX, CallError, Code, Inbox
from engine.envoy.channel import Channel, channel_of
from engine.tls import peer_of

# Bytes that a stream may send before they are taken, and all of a connection together.
_WINDOW = 64 << 10
_CONNECTION_WINDOW = 1 << 20
_SETTINGS = {
    ngh2.Setting.MAX_CONCURRENT_STREAMS: 1000,
    ngh2.Setting.MAX_HEADER_LIST_SIZE: 16 << 10,
    ngh2.Setting.INITIAL_WINDOW_SIZE: _WINDOW,
}
_CONFIGURATION = ngh2.Configuration(
    max_inbound_header_list_size=16 << 10,
    max_inbound_header_count=128,
    max_continuations=4,
    max_outbound_ack=200,
    # An Envoy whose Checks time out resets them, hundreds at once; a rapid reset is many more.
    stream_reset_rate_limit=(2000, 500),
    glitch_rate_limit=(1000, 100),
)
# Bytes that a connection reads before the others have their turn.
_TURN = 64 << 10
# Bytes of messages that are not complete, of one connection.
_INCOMPLETE = 4 << 20
# Frames between two sweeps that ask for nothing: pings, settings, windows, empty data.
_NOISE = 5000
# Streams of lost connections whose entries still wait.
_LEFT = 1000
_WRITE_HIGH = 256 << 10
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3))

_HEADERS = ((b":status", b"200"), (b"content-type", b"application/grpc"))
_OK = ((b"grpc-status", b"0"),)
PROTOCOL = "h2"
_CONTENT_TYPE = b"application/grpc"
# GOAWAY for a connection that libnghttp2 has given up: all but its last four bytes, the code.
_GOAWAY = b"\x00\x00\x08\x07" + bytes(9)
_CHECK, _ACCESS_LOGS = CHECK.encode(), ACCESS_LOGS.encode()
_PREFIX_SIZE = PREFIX.size
_prefix = PREFIX.unpack_from

_log = logging.getLogger(__name__)

Headers = tuple[ngh2.Header, ...]


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds that a connection may take.

    ``settings``: to its first settings; ``request``: to complete a message; ``idle``: without any
    call; ``write``: without reading what we write. ``connections``: how many there may be.
    """

    settings: float = 10
    request: float = 10
    idle: float = 900
    write: float = 20
    connections: int = 20_000


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


class Service:
    """What all connections of a server share."""

    def __init__(self, decider: Decider, limits: Limits, *, tls: bool) -> None:
        """Answer with a decider."""
        self.decider = decider
        self.authorization = Authorization(decider)
        self.limits = limits
        self.tls = tls
        self.connections: set[Connection] = set()
        self.loop = asyncio.get_running_loop()
        self.now = time.monotonic()
        self._left: list[Reports] = []

    def sweep(self) -> None:
        """Do what is due by time; once a second."""
        self.now = time.monotonic()
        for connection in list(self.connections):
            connection.sweep()
        self._left = [reports for reports in self._left if not _recorded(reports)]

    def keep(self, reports: Reports) -> None:
        """Go on recording what a connection reported that is lost."""
        if len(self._left) < _LEFT:
            self._left.append(reports)
        else:
            _log.error("%d refused connections are not recorded: too many wait", reports.waiting)

    def give_up(self) -> None:
        """Record what can be recorded; say what can't."""
        for reports in self._left:
            while not _recorded(reports) and not reports.failed:
                pass
            if reports.waiting:
                _log.error("%d refused connections are not recorded", reports.waiting)
        self._left = []


def _recorded(reports: Reports) -> bool:
    try:
        return reports.record()
    except Exception:  # noqa: BLE001 - whatever it is, the others go on
        _log.exception("an entry of an access log can't be recorded")
        return True


class Connection(asyncio.Protocol):
    """The connection."""

    __slots__ = (
        "_blocked",
        "_calls",
        "_check",
        "_closing",
        "_flushing",
        "_headers",
        "_held",
        "_http",
        "_leaving",
        "_noise",
        "_peer",
        "_resting",
        "_route",
        "_seen",
        "_service",
        "_settled",
        "_transport",
        "_until",
    )

    _transport: asyncio.Transport

    def __init__(self, service: Service) -> None:
        """A connection is nothing before it is made."""
        self._service = service
        self._check = service.authorization.check
        self._http = ngh2.Connection(ngh2.Role.SERVER, _CONFIGURATION)
        self._calls: dict[int, _Route | _Call] = {}
        # Of the latest Check.
        self._headers: Headers = ()
        self._route: _Route = _Route(channel_of({}, ""))
        self._peer: str | None = None
        self._until = math.inf
        # Answers that wait for their records to be safe.
        self._held = 0
        self._noise = 0
        self._seen = service.now
        self._settled = False
        # Steps of a graceful end.
        self._leaving = 0
        # Since when: the peer reads nothing, the end waits for the peer.
        self._blocked: float | None = None
        self._closing: float | None = None
        self._resting = False
        self._flushing = False

    # --- What the transport says ------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet a peer, if it has proved who it is."""
        self._transport = cast("asyncio.Transport", transport)
        self._service.connections.add(self)
        self._run(self._greet)

    def data_received(self, data: bytes) -> None:
        """Answer what is asked; all of it with one write."""
        self._run(partial(self._read, data))
        if len(data) >= _TURN:
            self._give_way()

    def pause_writing(self) -> None:
        """The peer reads too little: read nothing from it."""
        self._blocked = self._service.now
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """The peer reads again."""
        self._blocked = None
        self._flush_soon()
        self._read_on()

    def connection_lost(self, exc: Exception | None) -> None:
        """What was reported stays to be recorded; answers have nobody to go to."""
        del exc
        self._closing = self._service.now
        self._service.connections.discard(self)
        for call in self._calls.values():
            if type(call) is _Call:
                self._leave_reports(call)
        self._calls.clear()

    # --- What time and the server say -------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether a Check is in flight."""
        checks = (call for call in self._calls.values() if not _is_stream(call))
        return self._held > 0 or any(True for _ in checks)

    def sweep(self) -> None:
        """Do what is due by time."""
        if self._is_overdue():
            self.abort()
        else:
            self._noise = 0
            self._run(self._sweep_calls)
            self._sweep_end()

    def leave(self) -> None:
        """Tell the peer to open no more streams here."""
        self._step(1, self._http.send_shutdown_notice)

    def end_streams(self) -> None:
        """Answer the streams that the peer would never end; what is under way is still taken."""
        self._step(2, self._end_streams)

    def finish(self) -> None:
        """Say good-bye, and close."""
        self._step(3, self._http.send_goaway)
        self._close()

    def abort(self) -> None:
        """End it now."""
        self._closing = self._service.now
        self._transport.abort()

    def _step(self, step: int, do: Callable[[], None]) -> None:
        if self._leaving < step:
            self._leaving = step
            self._run(do)

    def _run(self, do: Callable[[], None]) -> None:
        """Do something and write what comes of it. No exception leaves it."""
        if self._closing is not None:
            return
        try:
            do()
            self._flush()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this connection's
            self._fail(error)

    def _end_streams(self) -> None:
        for stream_id, call in self._calls.items():
            if type(call) is _Call and call.reports is not None and not call.answered:
                call.answered = True
                self._send_status(stream_id, Code.UNAVAILABLE, "the evaluator stops")

    def _is_overdue(self) -> bool:
        now, limits = self._service.now, self._service.limits
        if self._closing is not None:
            return now - self._closing > limits.write
        if self._blocked is not None:
            return now - self._blocked > limits.write
        return not self._settled and now - self._seen > limits.settings

    def _sweep_calls(self) -> None:
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

    def _sweep_end(self) -> None:
        """Leave step by step: what the peer sent before it heard of one arrives before the next."""
        now = self._service.now
        if self._leaving == 0:
            idle = not self._calls and not self._held
            expired = time.time() > self._until
            if expired or (idle and now - self._seen > self._service.limits.idle):
                self.leave()
        elif self._leaving == 1 and not self.busy:
            self.end_streams()
        elif self._leaving == 2:  # noqa: PLR2004 - streams have been ended
            self.finish()

    # --- Reading ----------------------------------------------------------------------------------

    def _greet(self) -> None:
        if len(self._service.connections) > self._service.limits.connections:
            _log.warning("a connection is refused: there are too many")
            self.abort()
            return
        if self._service.tls:
            connection = self._transport.get_extra_info("ssl_object")
            if connection.selected_alpn_protocol() != PROTOCOL:
                self.abort()
                return
            self._peer, self._until = peer_of(connection)
        self._transport.set_write_buffer_limits(high=_WRITE_HIGH)
        self._keep_alive()
        self._http.initiate_connection(_SETTINGS)
        self._http.set_local_window_size(_CONNECTION_WINDOW)

    def _read(self, data: bytes) -> None:
        self._http.receive_data(data)
        self._take(self._http.events())

    def _keep_alive(self) -> None:
        """Learn of peers that went without a word."""
        connection = self._transport.get_extra_info("socket")
        if connection is not None and connection.family in (socket.AF_INET, socket.AF_INET6):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in _KEEPALIVE:
                connection.setsockopt(socket.IPPROTO_TCP, option, value)

    def _give_way(self) -> None:
        if not self._resting and self._closing is None:
            self._resting = True
            self._transport.pause_reading()
            self._service.loop.call_soon(self._rested)

    def _rested(self) -> None:
        self._resting = False
        self._read_on()

    def _read_on(self) -> None:
        if not self._resting and self._blocked is None and self._closing is None:
            self._transport.resume_reading()

    def _take(self, events: list[ngh2.Event]) -> None:
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
                self._seen = self._service.now
            elif type(event) is StreamClosed:
                if calls:
                    self._forget(event.stream_id)
            else:
                self._take_other(event)

    def _take_other(self, event: ngh2.Event) -> None:
        if isinstance(event, ngh2.ConnectionClosed):
            # What is left to be written comes first.
            self._service.loop.call_soon(self._close)
        elif isinstance(event, ngh2.TrailersReceived):
            self._guard(event.stream_id, partial(self._end, event.stream_id))
        elif isinstance(event, ngh2.SettingsReceived):
            self._settled = True
        self._disturb()

    def _disturb(self) -> None:
        self._noise += 1
        if self._noise > _NOISE:
            raise ngh2.DenialOfServiceError("frames that ask for nothing")

    def _forget(self, stream_id: int) -> None:
        call = self._calls.pop(stream_id, None)
        if type(call) is _Call:
            self._leave_reports(call)

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

    def _open(self, event: RequestReceived) -> None:
        """Route a call by its headers."""
        stream_id, fields = event.stream_id, dict(event.headers)
        if fields.get(b":method") != b"POST":
            self._refuse_http(stream_id, b"405")
            return
        if not fields.get(b"content-type", b"").startswith(_CONTENT_TYPE):
            self._refuse_http(stream_id, b"415")
            return
        path = fields.get(b":path")
        channel = channel_of(fields, self._peer)
        if path == _CHECK:
            self._headers, self._route = event.headers, _Route(channel)
            self._calls[stream_id] = self._route
        elif path == _ACCESS_LOGS:
            reports = Reports(self._service.decider, channel)
            self._calls[stream_id] = _Call(channel, self._service.now, reports)
        else:
            raise CallError(Code.UNIMPLEMENTED, "there is no such method")
        if event.end_stream:
            self._end(stream_id)

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
        self._run(partial(self._guard, stream_id, go_on))

    def _go_idle(self, stream_id: int, call: _Call) -> None:
        """All that came is recorded."""
        if not call.ended:
            if call.stopped:
                call.stopped = False
                self._http.set_local_window_size(_WINDOW, stream_id=stream_id)
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

    # --- Writing ----------------------------------------------------------------------------------

    def _answer(self, stream_id: int, message: bytes, channel: Channel) -> None:
        """Answer a Check, now or when its record is safe."""
        try:
            answer = self._check(message, channel)
            if type(answer) is bytes:
                self._send_answer(stream_id, answer)
            else:
                self._hold(stream_id, cast("Held", answer))
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
        if self._closing is None:
            self._guard(stream_id, partial(self._send_answer, stream_id, answer))
            self._flush_soon()

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
        self._flush()
        self._http.reset_stream(stream_id, ngh2.ErrorCode.NO_ERROR)

    def _flush(self) -> None:
        """Write all that is ready."""
        if self._blocked is not None or self._closing is not None:
            return
        data = self._http.data_to_send()
        if data:
            self._transport.write(data)
        # Streams that ended by it.
        self._take(self._http.events())

    def _flush_soon(self) -> None:
        """Write at the end of this turn, with whatever else is answered in it."""
        if not self._flushing:
            self._flushing = True
            self._service.loop.call_soon(self._flush_now)

    def _flush_now(self) -> None:
        self._flushing = False
        self._run(self._flush)

    def _close(self) -> None:
        if self._closing is None:
            self._closing = self._service.now
            self._transport.close()

    def _fail(self, error: Exception) -> None:
        """End the connection: libnghttp2 can't go on, or we can't."""
        if self._closing is not None:
            return
        code = ngh2.ErrorCode.INTERNAL_ERROR
        if isinstance(error, ngh2.DenialOfServiceError):
            code = ngh2.ErrorCode.ENHANCE_YOUR_CALM
        elif isinstance(error, ngh2.NGH2Error):
            code = ngh2.ErrorCode.PROTOCOL_ERROR
        if isinstance(error, ngh2.NGH2Error):
            _log.info("a connection of %s ends: %s", self._peer or "a peer", error)
        else:
            _log.error("a connection failed", exc_info=error)
        with contextlib.suppress(OSError, RuntimeError):
            self._transport.write(_GOAWAY + code.to_bytes(4, "big"))
        self._close()
