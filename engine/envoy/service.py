"""What all connections of a server share, and how long each may take."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import Protocol

from engine.decider import Decider
from engine.envoy.accesslog import Reports
from engine.envoy.authz import Authorization

# Streams of lost connections whose entries still wait.
_LEFT = 1000
# Entries of each that are recorded at a time.
_ENTRIES = 1000

_log = logging.getLogger(__name__)


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


class Connection(Protocol):
    """A connection, as far as the server has to do with it; none of this raises."""

    @property
    def busy(self) -> bool:
        """Whether a Check is in flight."""

    def sweep(self) -> None:
        """Do what is due by time."""

    def leave(self) -> None:
        """Tell the peer to open no more streams here."""

    def end_streams(self) -> None:
        """Answer the streams that the peer would never end; what is under way is still taken."""

    def finish(self) -> None:
        """Say good-bye, and close."""

    def abort(self) -> None:
        """End it now."""


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
        # As of the last sweep: seconds that only grow, and since the epoch.
        self.now, self.wall = time.monotonic(), time.time()
        self._left: list[Reports] = []

    def sweep(self) -> None:
        """Do what is due by time; once a second."""
        self.now, self.wall = time.monotonic(), time.time()
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
        return reports.record(_ENTRIES)
    except Exception:  # noqa: BLE001 - whatever it is, the others go on
        _log.exception("an entry of an access log can't be recorded")
        return True
