"""The drainer: a process that moves records from the spool into the database, each exactly once.

Where it goes on is for the database's ledger to say, never for a file here. So it may be killed at
any time, and a commit whose answer was lost is not repeated. Segments are deleted when the ledger
has all of them, folders of dead writers too. The database away, frozen, full or refusing: it waits,
with no more in memory than a batch, and says so once.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import struct
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

import psycopg
from psycopg import errors

from engine.audit.checkpoint import Checkpoint, Keeper
from engine.audit.frames import Gap, Records, Tail
from engine.audit.layout import (
    COMMITTED,
    HURRY,
    PROGRESS,
    listen,
    lock,
    quarantine,
    tell,
    writers,
)
from engine.audit.link import Link
from engine.audit.status import DrainStatus
from engine.settings import Audit

BATCH = 5000
GRACE = 25.0
PAUSE = 0.1
_REPORT = 1.0
_CHECKPOINTS = 60.0
# What the database says of a record that it does not take, rather than of its own state.
_UNFIT = (errors.DataError, errors.IntegrityError, ValueError, OverflowError, struct.error)

_log = logging.getLogger(__name__)


class SecondDrainerError(Exception):
    """Another drainer has the spool; the message is one sentence."""


def run(spool: Path, audit: Audit, state: Path) -> int:
    """Drain until SIGTERM, and then all that is there, for up to ``GRACE`` seconds; the exit code.

    For a process of its own. ``audit.json`` in the folder ``state`` tells how it goes.

    Raises:
        SecondDrainerError: if another drainer has the spool.
    """
    told = False

    def stop(_number: int, _frame: object) -> None:
        nonlocal told
        told = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's reaches the whole group
    spool.mkdir(mode=0o700, parents=True, exist_ok=True)
    held = lock(spool)
    if held is None:
        raise SecondDrainerError(f"another drainer has {spool}")
    try:
        Drainer(spool, audit, state).drain(lambda: told)
    finally:
        os.close(held)
    return 0


class _Pass(Enum):
    """How a pass over all writers ended.

    There is more; what there was is moved; there was nothing; it failed.
    """

    MORE = auto()
    MOVED = auto()
    NOTHING = auto()
    FAILED = auto()


@dataclass
class _Writer:
    """A writer whose records are drained.

    The ledger has its records until ``recorded``, as connection ``link`` told; some of those until
    ``lost`` are not in the trail.
    """

    tail: Tail
    recorded: int = 0
    lost: int = 0
    link: int = 0


class Drainer:
    """Moves records, on one thread."""

    def __init__(self, spool: Path, audit: Audit, state: Path) -> None:
        """Nothing is opened before ``drain``."""
        self._spool = spool
        self._state = state
        self._status = DrainStatus()
        self._link = Link(audit.dsn, self._status)
        self._keeper = Keeper(audit.checkpoints, audit.checkpoint_key)
        self._writers: dict[int, _Writer] = {}
        self._left: set[int] = set()
        self._size = BATCH
        self._reported = self._kept = 0.0
        self._sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sender.settimeout(0)

    def drain(self, told: Callable[[], bool]) -> None:
        """Drain until told to stop and nothing is left, or the grace is over."""
        deadline: float | None = None
        with closing(self), listen(self._spool, HURRY) as hurry:
            while deadline is None or time.monotonic() < deadline:
                if deadline is None and told():
                    deadline = time.monotonic() + GRACE
                result = self._pass()
                self._report()
                if deadline is not None and self._is_done(result):
                    break
                if result is _Pass.FAILED:
                    time.sleep(PAUSE)
                elif result is not _Pass.MORE and deadline is None:
                    _wait(hurry)

    def close(self) -> None:
        """Let go of everything, and leave a last report and checkpoint."""
        self._reported = self._kept = 0.0
        self._report()
        self._link.close()
        for writer in self._writers.values():
            writer.tail.close()
        self._sender.close()

    def _pass(self) -> _Pass:
        """Move a batch of every writer."""
        try:
            self._look_for_writers()
            if self._link.open() is None:
                return _Pass.FAILED
            results = [self._move(writer) for writer in list(self._writers.values())]
            self._link.well()
        except psycopg.Error as error:
            self._link.lose(error)
            return _Pass.FAILED
        except OSError as error:
            self._link.say(error)
            return _Pass.FAILED
        return min(results, key=lambda result: result.value, default=_Pass.NOTHING)

    def _is_done(self, result: _Pass) -> bool:
        """Whether nothing is left, or nothing but what live writers append in this moment."""
        if result is _Pass.MOVED:
            return not any(writer.tail.dead for writer in self._writers.values())
        return result is _Pass.NOTHING

    def _look_for_writers(self) -> None:
        there = set(writers(self._spool)) - self._left
        for gone in self._writers.keys() - there:
            self._writers.pop(gone).tail.close()
        for new in there - self._writers.keys():
            self._writers[new] = _Writer(Tail(self._spool, new))

    def _move(self, writer: _Writer) -> _Pass:
        """Move a batch of a writer."""
        tail = writer.tail
        if writer.link != self._link.number:
            self._resume(writer)
        try:
            found = tail.read(self._size)
            full = isinstance(found, Records) and len(found.bodies) == self._size
            if found is not None:
                self._write(writer, found)
        except BaseException:
            tail.back()
            raise
        tail.release(writer.recorded)
        self._tell(writer)
        if tail.ended and tail.expected == writer.recorded + 1:
            self._remove(writer)
        if found is None:
            return _Pass.NOTHING
        begun_anew = writer.recorded != found.last
        return _Pass.MORE if isinstance(found, Gap) or full or begun_anew else _Pass.MOVED

    def _resume(self, writer: _Writer) -> None:
        """Go on where the ledger says."""
        writer.recorded = self._link.last_recorded(writer.tail.writer)
        writer.tail.seek(writer.recorded)
        writer.link = self._link.number

    def _write(self, writer: _Writer, found: Records | Gap) -> None:
        try:
            self._link.write(writer.tail.writer, found)
        except errors.ObjectNotInPrerequisiteState:
            # It was committed after all, though the connection was lost before it said so.
            self._resume(writer)
            return
        except _UNFIT as error:
            if not isinstance(found, Records) or _is_partition_missing(error):
                raise
            self._narrow(writer, found, error)
            return
        if isinstance(found, Gap):
            self._lose(writer, found)
        writer.recorded = found.last
        self._size = min(BATCH, 2 * self._size)

    def _narrow(self, writer: _Writer, records: Records, error: Exception) -> None:
        """Look for the record that the database does not take; alone, it is put aside."""
        writer.tail.back()
        self._size = max(1, len(records.bodies) // 2)
        if len(records.bodies) > 1:
            return
        number = records.first
        _log.error("record %d of writer %015x is put aside: %s", number, writer.tail.writer, error)
        quarantine(self._spool, f"{writer.tail.folder.name}-{number}.record", records.bodies[0])
        gap = Gap(number, number)
        self._link.write(writer.tail.writer, gap)
        self._lose(writer, gap)
        writer.recorded = number
        writer.tail.seek(number)

    def _lose(self, writer: _Writer, gap: Gap) -> None:
        writer.lost = gap.last
        self._status.lost += gap.last - gap.first + 1

    def _tell(self, writer: _Writer) -> None:
        """Tell a writer what is committed, again and again: a datagram may find no room."""
        if (writer.tail.folder / COMMITTED).exists():
            message = PROGRESS.pack(writer.lost, writer.recorded)
            tell(self._sender, writer.tail.folder, COMMITTED, message)

    def _remove(self, writer: _Writer) -> None:
        number, tail = writer.tail.writer, writer.tail
        try:
            tail.remove()
        except OSError as error:
            _log.error("the drained folder %s stays: %s", tail.folder, error.strerror)
            self._left.add(number)
        tail.close()
        del self._writers[number]

    def _report(self) -> None:
        now = time.monotonic()
        if now - self._reported >= _REPORT:
            self._reported = now
            with suppress(OSError):  # it shows by its age
                self._status.oldest = self._oldest()
                self._status.write(self._state)
        head = self._link.head
        if head is not None and now - self._kept >= _CHECKPOINTS:
            self._kept = now
            self._keeper.keep(Checkpoint(head.number, head.chain))

    def _oldest(self) -> float | None:
        """When the oldest record was made that waits; ``None`` if none does."""
        times = (writer.tail.oldest_us() for writer in self._writers.values())
        return min((found / 1e6 for found in times if found is not None), default=None)


def _wait(hurry: socket.socket) -> None:
    """Wait a little, or until a writer is in a hurry."""
    if select.select([hurry], [], [], PAUSE)[0]:
        with suppress(BlockingIOError):
            while True:
                hurry.recv(1)


def _is_partition_missing(error: Exception) -> bool:
    """Whether rows were refused because their day's partition is gone, which can be mended."""
    return isinstance(error, errors.CheckViolation) and error.diag.constraint_name is None
