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
    """The three ports."""

    api: socket.socket
    health: socket.socket
    grpc: socket.socket

    def ports(self) -> tuple[int, int, int]:
        """Their numbers, as the system gave them."""
        api, health, grpc = (
            listening.getsockname()[1] for listening in (self.api, self.health, self.grpc)
        )
        return api, health, grpc


@contextmanager
def bound(settings: Settings) -> Iterator[Sockets]:
    """Bind all ports.

    Raises:
        ListenError: if one is taken.
    """
    with ExitStack() as stack:
        places = (settings.api, settings.health, settings.grpc)
        yield Sockets(*(stack.enter_context(_listening(place)) for place in places))


@contextmanager
def _listening(at: Listen) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in at.host else socket.AF_INET
    try:
        listening = socket.create_server((at.host, at.port), family=family, backlog=_BACKLOG)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ListenError(f"{at} is in use: stop what listens there, or set a port") from None
        raise ListenError(f"cannot listen on {at}: {os.strerror(error.errno or 0)}") from None
    with listening:
        yield listening
