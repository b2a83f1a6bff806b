"""The listening sockets: bound once, before anything is forked, and shared by all workers."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from engine.settings import Listen, Settings

_BACKLOG = 4096


class ListenError(Exception):
    """A port can't be had; the message is one sentence."""


@dataclass(frozen=True, slots=True)
class Sockets:
    """The ports. Health is open at once; the others when the evaluator can answer on them."""

    api: socket.socket
    health: socket.socket
    grpc: socket.socket
    webhook: socket.socket | None

    def ports(self) -> tuple[int, int, int]:
        """Their numbers, as the system gave them."""
        api, health, grpc = (
            listening.getsockname()[1] for listening in (self.api, self.health, self.grpc)
        )
        return api, health, grpc

    def open(self) -> None:
        """Take connections on all ports.

        Raises:
            ListenError: if another process does on one of them.
        """
        for port in filter(None, (self.api, self.grpc, self.webhook)):
            _listen(port)


@contextmanager
def bound(settings: Settings) -> Iterator[Sockets]:
    """Bind all ports.

    Raises:
        ListenError: if one is taken.
    """
    with ExitStack() as stack:

        def bind(at: Listen) -> socket.socket:
            return stack.enter_context(_bound(at))

        webhook = bind(settings.webhook.listen) if settings.webhook else None
        sockets = Sockets(bind(settings.api), bind(settings.health), bind(settings.grpc), webhook)
        _listen(sockets.health)
        yield sockets


@contextmanager
def _bound(at: Listen) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in at.host else socket.AF_INET
    with socket.socket(family) as made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        with _explained(at):
            made.bind((at.host, at.port))
        yield made


def _listen(port: socket.socket) -> None:
    with _explained(Listen(*port.getsockname()[:2])):
        port.listen(_BACKLOG)


@contextmanager
def _explained(at: Listen) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ListenError(f"{at} is in use: stop what listens there, or set a port") from None
        raise ListenError(f"cannot listen on {at}: {os.strerror(error.errno or 0)}") from None
