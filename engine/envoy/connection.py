"""One HTTP/2 connection of a sidecar, between libnghttp2 and a socket.

Nobody disturbs anybody else: what is wrong with a connection ends that connection, and each gives
way to the others after a bounded piece of work. No exception gets to the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import socket
from collections.abc import Callable
from typing import cast

import ngh2

from engine.envoy.service import Service
from engine.envoy.streams import WINDOW, Streams
from engine.tls import peer_of

PROTOCOL = "h2"
_SETTINGS = {
    ngh2.Setting.MAX_CONCURRENT_STREAMS: 1000,
    ngh2.Setting.MAX_HEADER_LIST_SIZE: 16 << 10,
    ngh2.Setting.INITIAL_WINDOW_SIZE: WINDOW,
}
# Bytes that all streams together may send before they are taken.
_CONNECTION_WINDOW = 1 << 20
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
_WRITE_HIGH = 256 << 10
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3))

# GOAWAY for a connection that libnghttp2 has given up: all but its last four bytes, the code.
_GOAWAY = b"\x00\x00\x08\x07" + bytes(9)

_log = logging.getLogger(__name__)


class Connection(asyncio.Protocol):
    """The connection."""

    __slots__ = (
        "_blocked",
        "_closing",
        "_flushing",
        "_http",
        "_leaving",
        "_resting",
        "_service",
        "_streams",
        "_told",
        "_transport",
        "_until",
    )

    _transport: asyncio.Transport

    def __init__(self, service: Service) -> None:
        """A connection is nothing before it is made."""
        self._service = service
        self._http = ngh2.Connection(ngh2.Role.SERVER, _CONFIGURATION)
        self._streams = Streams(service, self._http, self)
        # When its certificate ends.
        self._until = math.inf
        # Steps of a graceful end, and when the peer was told of it.
        self._leaving = 0
        self._told = 0.0
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
        self.run(self._greet)

    def data_received(self, data: bytes) -> None:
        """Answer what is asked; all of it with one write."""
        if self._closing is not None:
            return
        try:
            self._http.receive_data(data)
            self._streams.take(self._http.events())
            self.flush()
        except Exception as error:  # noqa: BLE001 - as in run, without its calls
            self._fail(error)
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
        """Nobody is left to answer."""
        del exc
        self._closing = self._service.now
        self._service.connections.discard(self)
        self._streams.lose()

    # --- What time and the server say -------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether a Check is in flight."""
        return self._streams.busy

    def sweep(self) -> None:
        """Do what is due by time."""
        if self._is_overdue():
            self.abort()
            return
        self._streams.noise = 0
        if not self._streams.idle:
            self.run(self._streams.sweep)
        self._sweep_end()

    def leave(self) -> None:
        """Tell the peer to open no more streams here."""
        self._step(1, self._http.send_shutdown_notice)

    def end_streams(self) -> None:
        """Answer the streams that the peer would never end; what is under way is still taken."""
        self._step(2, self._streams.end)

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
            self.run(do)

    def _is_overdue(self) -> bool:
        now, limits = self._service.now, self._service.limits
        if self._closing is not None:
            return now - self._closing > limits.write
        if self._blocked is not None:
            return now - self._blocked > limits.write
        return not self._streams.settled and now - self._streams.seen > limits.settings

    def _sweep_end(self) -> None:
        """Leave step by step: what the peer sent before it heard of one arrives before the next."""
        now, limits = self._service.now, self._service.limits
        if self._leaving == 0:
            idle = self._streams.idle and now - self._streams.seen > limits.idle
            if idle or self._service.wall > self._until:
                self._told = now
                self.leave()
        elif self._leaving == 1:
            # One that asks all the time is left in the end.
            if not self.busy or now - self._told > limits.request:
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
            self._streams.peer, self._until = peer_of(connection)
        self._transport.set_write_buffer_limits(high=_WRITE_HIGH)
        self._keep_alive()
        self._http.initiate_connection(_SETTINGS)
        self._http.set_local_window_size(_CONNECTION_WINDOW)

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

    # --- Writing ----------------------------------------------------------------------------------

    def run(self, do: Callable[[], None], *, soon: bool = False) -> None:
        """Do something, unless it has ended, and write what comes of it. Nothing is raised."""
        if self._closing is not None:
            return
        try:
            do()
            if soon:
                self._flush_soon()
            else:
                self.flush()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this connection's
            self._fail(error)

    def flush(self) -> None:
        """Write all that is ready."""
        if self._blocked is not None or self._closing is not None:
            return
        data = self._http.data_to_send()
        if data:
            self._transport.write(data)
        # Streams that ended by it.
        self._streams.take(self._http.events())

    def _flush_soon(self) -> None:
        """Write at the end of this turn, with whatever else is answered in it."""
        if not self._flushing:
            self._flushing = True
            self._service.loop.call_soon(self._flush_now)

    def _flush_now(self) -> None:
        self._flushing = False
        self.run(self.flush)

    def close_soon(self) -> None:
        """Close, once all is written."""
        self._service.loop.call_soon(self._close)

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
            _log.info("a connection of %s ends: %s", self._streams.peer or "a peer", error)
        else:
            _log.error("a connection failed", exc_info=error)
        with contextlib.suppress(OSError, RuntimeError):
            self._transport.write(_GOAWAY + code.to_bytes(4, "big"))
        self._close()
