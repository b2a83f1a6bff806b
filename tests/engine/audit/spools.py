"""Spools on a disk that fails on demand, and what is left of a process that was killed."""

import errno
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from engine.audit.frames import Gap, Records, Tail
from engine.audit.layout import BODY
from engine.audit.spool import Files, Spool

SEGMENT = 1 << 12
LIMIT = 1 << 20
NOW_US = 1_795_000_000_000_000


class KilledError(BaseException):
    """The process is killed in the middle of a system call."""


@dataclass
class Disk:
    """System calls; ``fail`` holds what the next one of a name does instead."""

    fail: dict[str, Callable[..., object]] = field(default_factory=dict)
    full: bool = False
    datasyncs: list[int] = field(default_factory=list)

    def files(self) -> Files:
        return Files(pwrite=self._pwrite, allocate=self._allocate, datasync=self._datasync)

    def _pwrite(self, descriptor: int, data: bytes, offset: int) -> int:
        failure = self.fail.pop("pwrite", None)
        return (
            int(str(failure(descriptor, data, offset)))
            if failure
            else os.pwrite(descriptor, data, offset)
        )

    def _allocate(self, descriptor: int, offset: int, size: int) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.posix_fallocate(descriptor, offset, size)

    def _datasync(self, descriptor: int) -> None:
        self.datasyncs.append(descriptor)
        failure = self.fail.pop("datasync", None)
        if failure:
            failure(descriptor)
        os.fdatasync(descriptor)


def broken(*_: object) -> int:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def written_in_part(part: float, after: Callable[..., int] | None = None) -> Callable[..., int]:
    """A write that gets no further than a part; then it tells how far, or does ``after``."""

    def write(descriptor: int, data: bytes, offset: int) -> int:
        written = os.pwrite(descriptor, data[: int(len(data) * part)], offset)
        return after() if after else written

    return write


def killed() -> int:
    raise KilledError


def kill(spool: Spool) -> None:
    """What the end of its process does to a spool: nothing is said, files and lock are closed."""
    allocator = spool._allocator
    with allocator._changed:
        allocator._closing = True
        allocator._changed.notify_all()
    allocator._thread.join()
    open_files = {*spool._sealed, spool._descriptor, allocator._spare, spool._lock}
    for descriptor in open_files - {-1}:
        os.close(descriptor)


def settled(spool: Spool) -> None:
    """Wait until there is a spare segment."""
    deadline = time.monotonic() + 5
    while spool._allocator._spare < 0:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def read_all(tail: Tail, limit: int = 7) -> tuple[list[bytes], list[Gap]]:
    """The outcomes that can be read now, and what is missing."""
    outcomes: list[bytes] = []
    gaps: list[Gap] = []
    while (found := tail.read(limit)) is not None:
        if isinstance(found, Gap):
            gaps.append(found)
        else:
            outcomes += outcomes_of(found)
    return outcomes, gaps


def outcomes_of(records: Records) -> list[bytes]:
    for sequence, body in enumerate(records.bodies, records.first):
        assert BODY.unpack_from(body)[0] == sequence
    return [body[BODY.size :] for body in records.bodies]


def forget(root: Path) -> None:
    with suppress(FileNotFoundError):
        for path in sorted(root.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
