"""When a record is safe enough for its decision to be answered.

``process``: once it is appended; it survives the process. ``disk``: once it is synchronised, many
at a time; it survives the node. ``db``: once the drainer says that it is committed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections import deque
from collections.abc import Callable
from typing import Protocol

from engine.audit.layout import COMMITTED, HURRY, PROGRESS, listen, tell
from engine.audit.spool import Spool
from engine.settings import Durability

# What is not safe by then is denied, with the reason, long before Envoy gives up by itself.
PATIENCE = 0.7

_log = logging.getLogger(__name__)

Settle = Callable[[bool], None]


class Level(Protocol):
    """A level of durability, for one event loop."""

    @property
    def immediate(self) -> bool:
        """Whether a record is safe as soon as it is appended."""

    def when(self, sequence: int, settle: Settle) -> None:
        """Call ``settle``, soon or later, with whether the record is as safe as was asked for."""

    async def close(self) -> None:
        """Stop; what still waits is settled with ``False``."""


def durability_of(durability: Durability, spool: Spool) -> Level:
    """The level of a name, for the records of a spool.

    Raises:
        OSError: if there can be no socket for what the drainer says.
    """
    match durability:
        case Durability.PROCESS:
            return Process()
        case Durability.DISK:
            return Disk(spool)
        case Durability.DB:
            return Database(spool)


class Process:
    """Safe once appended."""

    immediate = True

    def when(self, sequence: int, settle: Settle) -> None:
        """Settle at once."""
        del sequence
        settle(True)  # noqa: FBT003 - what is told

    async def close(self) -> None:
        """Nothing waits."""


class _Waiting:
    """Records that wait, in their order, each for at most ``PATIENCE`` seconds."""

    immediate = False

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[int, float, Settle]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def when(self, sequence: int, settle: Settle) -> None:
        """Settle once it is safe, or is not in time."""
        self._waiting.append((sequence, self._loop.time() + PATIENCE, settle))
        if self._timer is None:
            self._timer = self._loop.call_later(PATIENCE, self._expire)
        self._begin()

    def _begin(self) -> None:
        """Have what waits made safe."""
        raise NotImplementedError

    def _settle(self, until: int, *, safe: bool) -> None:
        """Settle those up to a sequence number."""
        waiting = self._waiting
        while waiting and waiting[0][0] <= until:
            waiting.popleft()[2](safe)

    def _expire(self) -> None:
        now = self._loop.time()
        while self._waiting and self._waiting[0][1] <= now:
            self._waiting.popleft()[2](False)  # noqa: FBT003 - what is told
        self._timer = None
        if self._waiting:
            self._timer = self._loop.call_at(self._waiting[0][1], self._expire)

    def _settle_rest(self) -> None:
        if self._waiting:
            self._settle(self._waiting[-1][0], safe=False)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Disk(_Waiting):
    """Safe once synchronised: whatever came during one synchronisation shares the next."""

    def __init__(self, spool: Spool) -> None:
        """For the running loop."""
        super().__init__()
        self._spool = spool
        self._syncing: asyncio.Future[int] | None = None

    async def close(self) -> None:
        """Wait for what is under way; what still waits is settled with ``False``."""
        while self._syncing is not None:
            with contextlib.suppress(OSError):
                await self._syncing
            await asyncio.sleep(0)
        self._settle_rest()

    def _begin(self) -> None:
        if self._syncing is None:
            self._syncing = self._loop.run_in_executor(None, self._spool.sync)
            self._syncing.add_done_callback(self._synced)

    def _synced(self, done: asyncio.Future[int]) -> None:
        self._syncing = None
        try:
            self._settle(done.result(), safe=True)
        except OSError as error:
            _log.error("the spool can't be synchronised: %s", error.strerror)
            # Some of these may be in another segment by now, but none is known to be safe.
            self._settle(self._spool.sequence, safe=False)
        if self._waiting:
            self._begin()


class Database(_Waiting):
    """Safe once committed: the drainer says so with datagrams."""

    def __init__(self, spool: Spool) -> None:
        """For the running loop."""
        super().__init__()
        self._root = spool.folder.parent
        self._listening = listen(spool.folder, COMMITTED)
        self._sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sender.settimeout(0)
        self._asked = False
        self._loop.add_reader(self._listening, self._hear)

    async def close(self) -> None:
        """Stop listening; what still waits is settled with ``False``."""
        self._loop.remove_reader(self._listening)
        self._listening.close()
        self._sender.close()
        self._settle_rest()

    def _begin(self) -> None:
        if not self._asked:
            self._asked = True
            # Later in this turn of the loop others may have been appended.
            self._loop.call_soon(self._ask)

    def _ask(self) -> None:
        self._asked = False
        tell(self._sender, self._root, HURRY, b"!")

    def _hear(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while message := self._listening.recv(PROGRESS.size):
                lost, recorded = PROGRESS.unpack(message)
                self._settle(lost, safe=False)
                self._settle(recorded, safe=True)
