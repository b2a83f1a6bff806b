"""Packets between the ends of a site: who gets through to whom, all at once, with new sockets."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from tests.enforcer.scenes import PORTS, Question, address
from tests.lab.enforcer.site import Site

_PATIENCE = 5.0
# What is refused is silent: longer than a packet takes on a busy machine.
_SILENCE = 0.3
_AGAIN = 0.1
_BACKLOG = 256
_KINDS = {"TCP": socket.SOCK_STREAM, "UDP": socket.SOCK_DGRAM}
Listening = Mapping[tuple[str, int, str], socket.socket]


def opened(site: Site, where: str, protocol: str = "TCP") -> socket.socket:
    """A socket of that end, which does not block."""
    made = site.inside(where, lambda: socket.socket(socket.AF_INET, _KINDS[protocol]))
    made.settimeout(0)
    return made


@contextmanager
def listening(
    site: Site,
    ends: Iterable[str],
    ports: Iterable[int] = PORTS,
    protocols: Iterable[str] = ("TCP", "UDP"),
) -> Iterator[Listening]:
    """Sockets that wait at ends, by address, port and protocol; some have several addresses."""
    ends = {site.at[end]: end for end in ends}.values()
    with ExitStack() as stack:
        found: dict[tuple[str, int, str], socket.socket] = {}
        for key in ((e, port, protocol) for e in ends for port in ports for protocol in protocols):
            found[key] = stack.enter_context(opened(site, key[0], key[2]))
            # What is left of the connections before is in nobody's way.
            found[key].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found[key].bind(("", key[1]))
            if key[2] == "TCP":
                found[key].listen(_BACKLOG)
        yield found


@dataclass
class _Attempts:
    """Connections and datagrams under way, by the number of the question."""

    asked: Sequence[Question]
    sockets: list[socket.socket]
    waiting: Listening
    through: set[int] = field(default_factory=set)

    def begin(self) -> None:
        for number, question in enumerate(self.asked):
            if question.protocol == "TCP":
                self.sockets[number].connect_ex((address(question.destination), question.port))

    def send(self) -> None:
        """Datagrams, of which one may be lost."""
        for number, question in enumerate(self.asked):
            if question.protocol == "UDP" and number not in self.through:
                target = (address(question.destination), question.port)
                self.sockets[number].sendto(str(number).encode(), target)

    def look(self) -> None:
        poll = select.poll()
        streams = {
            made.fileno(): number
            for number, made in enumerate(self.sockets)
            if self.asked[number].protocol == "TCP"
        }
        for handle in streams:
            poll.register(handle, select.POLLOUT)
        for handle, event in poll.poll(0):
            if event == select.POLLOUT:
                self.through.add(streams[handle])
        for (_, _, protocol), made in self.waiting.items():
            if protocol == "UDP":
                self.through.update(map(int, _datagrams(made)))


def passing(site: Site, asked: Sequence[Question], expected: Sequence[bool]) -> list[bool]:
    """Which questions are let through. What is expected is waited for, and nothing else long."""
    wanted = {number for number, goes in enumerate(expected) if goes}
    ends = {address(question.destination) for question in asked}
    # A Service may lead to any of them.
    ports = {*PORTS, *(question.port for question in asked)}
    with listening(site, ends, ports) as waiting, ExitStack() as stack:
        sockets = [opened(site, address(q.source), q.protocol) for q in asked]
        for made in sockets:
            stack.enter_context(made)
        attempts = _Attempts(asked, sockets, waiting)
        attempts.begin()
        deadline = time.monotonic() + _PATIENCE
        while not wanted <= attempts.through and time.monotonic() < deadline:
            _round(attempts)
        for _ in range(round(_SILENCE / _AGAIN)):
            _round(attempts)
        return [number in attempts.through for number in range(len(asked))]


def _round(attempts: _Attempts) -> None:
    attempts.send()
    time.sleep(_AGAIN)
    attempts.look()


def _datagrams(made: socket.socket) -> Iterator[bytes]:
    while True:
        try:
            yield made.recv(64)
        except BlockingIOError:
            return


def differing(site: Site, wanted: Mapping[Question, bool]) -> list[Question]:
    """Those that are let through and may not, or the other way round."""
    found = passing(site, list(wanted), list(wanted.values()))
    return [one for one, goes in zip(wanted, found, strict=True) if goes != wanted[one]]


@contextmanager
def conversation(site: Site, source: str, target: str, port: int) -> Iterator[Conversation]:
    """A connection that is open, with both its ends."""
    with listening(site, [target], [port], ["TCP"]) as waiting, opened(site, source) as near:
        near.settimeout(_PATIENCE)
        near.connect((target, port))
        server = waiting[target, port, "TCP"]
        server.settimeout(_PATIENCE)
        far, _ = server.accept()
        with far:
            yield Conversation(near, far)


@dataclass(frozen=True)
class Conversation:
    """Both ends of a connection."""

    near: socket.socket
    far: socket.socket

    def says(self, text: bytes, patience: float = _SILENCE) -> bytes:
        """What the far end gets of it within so many seconds."""
        self.near.sendall(text)
        return self.hears(patience)

    def hears(self, patience: float) -> bytes:
        self.far.settimeout(patience)
        try:
            return self.far.recv(64)
        except TimeoutError:
            return b""
