"""Asks at a rate, whatever the answers do: latency as a caller has it who comes at random.

One thread that never sleeps, on a core of its own. h2load can't: it sends what is due each 10 ms in
one burst, and then measures that burst.
"""

from __future__ import annotations

import random
import select
import socket
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass

import ngh2

_PIECE = 1 << 18
_WINDOW = 1 << 24
# Seconds for what was asked last to be answered.
_PATIENCE = 10.0

Headers = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Call:
    """What is asked, ready to be sent."""

    headers: Headers
    body: bytes


class _Connection:
    """An HTTP/2 connection, and when each of its calls was due."""

    def __init__(self, port: int, context: ssl.SSLContext | None) -> None:
        plain = socket.create_connection(("127.0.0.1", port))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = context.wrap_socket(plain) if context else plain
        self.socket.setblocking(False)  # noqa: FBT003 - the name says what
        self._http = ngh2.Connection(
            ngh2.Role.CLIENT, ngh2.Configuration(peer_max_concurrent_streams=1000)
        )
        self._http.initiate_connection({ngh2.Setting.INITIAL_WINDOW_SIZE: _WINDOW})
        self._unsent = b""
        self.due: dict[int, float] = {}

    def ask(self, call: Call, due: float) -> None:
        stream = self._http.send_request(call.headers)
        self._http.send_data(stream, call.body, end_stream=True)
        self.due[stream] = due

    def send(self) -> None:
        self._unsent += self._http.data_to_send()
        try:
            while self._unsent:
                self._unsent = self._unsent[self.socket.send(self._unsent) :]
        except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            pass

    def receive(self) -> list[float]:
        """When those calls were due that have been answered now."""
        try:
            while piece := self.socket.recv(_PIECE):
                self._http.receive_data(piece)
        except (BlockingIOError, ssl.SSLWantReadError):
            pass
        events = self._http.events()
        closed = [event for event in events if isinstance(event, ngh2.StreamClosed)]
        if any(event.error_code for event in closed):
            raise RuntimeError("a call was reset")
        return [self.due.pop(event.stream_id) for event in closed]


def latencies(  # noqa: PLR0913 - what a run is
    port: int,
    calls: Sequence[Call],
    rate: float,
    seconds: float,
    *,
    connections: int,
    context: ssl.SSLContext | None = None,
) -> list[float]:
    """Milliseconds from when each call was due to its answer; ascending.

    Calls come as those of many independent callers do: a Poisson process.
    """
    dice = random.Random(54)  # noqa: S311 - reproducible, not secret
    open_ = [_Connection(port, context) for _ in range(connections)]
    by_descriptor = {connection.socket.fileno(): connection for connection in open_}
    poller = select.epoll()
    for descriptor in by_descriptor:
        poller.register(descriptor, select.EPOLLIN)
    found: list[float] = []
    number = 0
    start = due = time.perf_counter()
    while (now := time.perf_counter()) < start + seconds + _PATIENCE:
        while due <= min(now, start + seconds):
            open_[number % connections].ask(calls[number % len(calls)], due)
            number += 1
            due += dice.expovariate(rate)
        for connection in open_:
            connection.send()
        for descriptor, _ in poller.poll(0):
            answered = by_descriptor[descriptor].receive()
            now = time.perf_counter()
            found.extend((now - one) * 1000 for one in answered)
        if due > start + seconds and len(found) == number:
            break
    for connection in open_:
        connection.socket.close()
    if len(found) < number:
        raise RuntimeError(f"{number - len(found)} calls were not answered")
    return sorted(found)
