"""Where counters live: 64-bit cells of a file that every process of the evaluator can read.

A process has a file to itself, held by a lock. Its cells outlive it, so that no counter goes back
when a worker is killed, and the next process that starts takes the file over and counts on. Beside
the cells lies a list of names, a JSON array in each line; line n names cell n after the fixed ones.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import mmap
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson

from engine.metrics.families import FIXED, Series
from engine.metrics.histogram import HEAD_BYTES, HISTOGRAM_CELLS

SERIES_LIMIT = 1 << 16
FIRST = HISTOGRAM_CELLS
SIZE = 8 * (FIRST + SERIES_LIMIT)
NAMES_CHUNK = 1 << 18  # bytes by which the list of names grows
_CELLS, _NAMES = ".cells", ".names"
_NOWHERE = -1
_MODE = 0o640
_TRIES = 100

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reading:
    """What a process has counted: the histogram's cells, and the value of each series."""

    histogram: memoryview
    series: tuple[tuple[Series, int], ...]


class Cells:
    """The cells of this process: in a folder, or in memory of its own (``None``).

    ``values`` are all cells; ``values[FIRST + n]`` belongs to ``names[n]``. To be made after a
    fork, and not for several threads.
    """

    def __init__(self, folder: Path | None) -> None:
        """Take over what a dead process left, or begin at nothing."""
        self._lock = _NOWHERE
        self._list: _Names | None = None
        self.names: list[Series] = list(FIXED)
        memory: mmap.mmap | bytearray
        try:
            memory = bytearray(SIZE) if folder is None else self._claim(folder)
        except OSError as error:
            _log.error("metrics are kept in memory, not in %s: %s", folder, error.strerror)
            memory = bytearray(SIZE)
        self.values = memoryview(memory).cast("Q")

    def add(self, series: Series) -> int | None:
        """The cell of a new series; ``None`` if there are too many, or it can't be written.

        A name goes to the list before its cell is used.
        """
        if len(self.names) == SERIES_LIMIT:
            return None
        if self._list is not None and not self._list.add(orjson.dumps(series) + b"\n"):
            return None
        self.names.append(series)
        return FIRST + len(self.names) - 1

    def indices(self) -> dict[Series, int]:
        """The cell of each series."""
        return {series: FIRST + number for number, series in enumerate(self.names)}

    def reading(self) -> Reading:
        """What has been counted so far."""
        return _reading(self.values, self.names)

    def close(self) -> None:
        """Leave the file to whoever comes next."""
        self.values.release()
        if self._list is not None:
            self._list.close()
        if self._lock != _NOWHERE:
            os.close(self._lock)

    def _claim(self, folder: Path) -> mmap.mmap:
        folder.mkdir(parents=True, exist_ok=True)
        path, self._lock = _locked(folder)
        # A hole in a mapped file would be a SIGBUS on the day when the disk is full.
        os.posix_fallocate(self._lock, 0, SIZE)
        memory = mmap.mmap(self._lock, SIZE)
        descriptor = os.open(path.with_suffix(_NAMES), os.O_RDWR | os.O_CREAT, _MODE)
        known, length = _parsed(path.with_suffix(_NAMES).read_bytes())
        self.names.extend(known)
        self._list = _Names(descriptor, length)
        # After a power cut the cells may know of more than the names do.
        nameless = 8 * (FIRST + len(self.names))
        if memory[nameless:].strip(b"\0"):
            memory[nameless:] = bytes(SIZE - nameless)
        return memory


class _Names:
    """The end of a list of names: a mapped file, so that a name costs no system call."""

    def __init__(self, descriptor: int, length: int) -> None:
        """Go on after so many bytes; what is behind them goes."""
        os.ftruncate(descriptor, length)
        self._descriptor = descriptor
        self._length = self._room = length
        self._memory: mmap.mmap | bytearray = bytearray()

    def add(self, line: bytes) -> bool:
        """Append a name; whether there was room for it."""
        end = self._length + len(line)
        if end > self._room and not self._grow(end):
            return False
        self._memory[self._length : end] = line
        self._length = end
        return True

    def close(self) -> None:
        """Leave the file as it is."""
        os.close(self._descriptor)

    def _grow(self, least: int) -> bool:
        room = least + NAMES_CHUNK
        try:
            os.posix_fallocate(self._descriptor, 0, room)
            self._memory = mmap.mmap(self._descriptor, room)
        except OSError:
            return False
        self._room = room
        return True


def readings(folder: Path) -> Iterator[Reading]:
    """What each process in a folder has counted, those that have ended as well."""
    for path in sorted(folder.glob("*" + _CELLS)):
        try:
            # Names first: what comes between is then missing, not nameless.
            names, _ = _parsed(path.with_suffix(_NAMES).read_bytes())
            content = _content(path)
        except FileNotFoundError:
            continue
        if len(content) == SIZE:
            yield _reading(memoryview(content).cast("Q"), [*FIXED, *names])


def _content(path: Path) -> bytes:
    """A file's cells, read again where a copy of the histogram was being made meanwhile."""
    with path.open("rb", buffering=0) as file:
        content = os.pread(file.fileno(), SIZE, 0)
        # The head begins with a sum, which changes all the time.
        while os.pread(file.fileno(), HEAD_BYTES, 0)[8:] != content[8:HEAD_BYTES]:
            content = os.pread(file.fileno(), SIZE, 0)
    return content


def _locked(folder: Path) -> tuple[Path, int]:
    """A file that no living process has, and its descriptor: the lock holds while that is open."""
    for path in _candidates(folder):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, _MODE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
        else:
            return path, descriptor
    raise OSError(errno.EAGAIN, "every file is taken")


def _candidates(folder: Path) -> Iterator[Path]:
    """Files that may be free, then new ones."""
    yield from sorted(folder.glob("*" + _CELLS))
    for _ in range(_TRIES):
        yield folder / f"{secrets.token_hex(8)}{_CELLS}"


def _parsed(content: bytes) -> tuple[list[Series], int]:
    """The names in a file up to the first that is not whole, and how many bytes they take.

    What no name has been written to is zeros.
    """
    names: list[Series] = []
    length = 0
    for line in content.partition(b"\0")[0].splitlines(keepends=True):
        try:
            names.append(tuple(orjson.loads(line)))
        except ValueError:
            break
        if not line.endswith(b"\n"):
            names.pop()
            break
        length += len(line)
    return names, length


def _reading(values: memoryview, names: list[Series]) -> Reading:
    counted = zip(names, values[FIRST : FIRST + len(names)].tolist(), strict=True)
    return Reading(values[:FIRST], tuple(counted))
