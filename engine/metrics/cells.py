"""Where counters live: 64-bit cells of a file that every process of the evaluator can read.

A process has a file to itself, held by a lock. Its cells outlive it, so that no counter goes back
when a worker is killed, and the next process that starts takes the file over and counts on. Beside
the cells lies a list of names, in each line a JSON array or a text. The arrays name cells in their
order, after the fixed ones; the texts are the parties of ``engine.metrics.pairs`` in theirs.
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

from engine.metrics.families import DECISIONS, FIXED, OTHER, Series
from engine.metrics.histogram import HEAD_BYTES, HISTOGRAM_CELLS
from engine.metrics.pairs import MOST_PARTIES, PAIR_CELLS, Pairs, counted, parts_of

SERIES_LIMIT = 1 << 16
FIRST = HISTOGRAM_CELLS
FIRST_PAIR = FIRST + SERIES_LIMIT
SIZE = 8 * (FIRST_PAIR + PAIR_CELLS)
# Parties are numbered from 1, and the first is whoever there is no number for.
SHARED = 1
_UNNAMED = ("", OTHER)
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

    ``values`` are all cells; ``values[FIRST + n]`` belongs to ``names[n]``, ``values[FIRST_PAIR +
    n]`` to what ``pairs`` finds at n. ``parties`` are the names by their numbers. To be made after
    a fork, and not for several threads.
    """

    def __init__(self, folder: Path | None) -> None:
        """Take over what a dead process left, or begin at nothing."""
        self._lock = _NOWHERE
        self._list: _Names | None = None
        self.names: list[Series] = list(FIXED)
        self.parties: list[str] = list(_UNNAMED)
        memory: mmap.mmap | bytearray
        try:
            memory = bytearray(SIZE) if folder is None else self._claim(folder)
        except OSError as error:
            _log.error("metrics are kept in memory, not in %s: %s", folder, error.strerror)
            memory = bytearray(SIZE)
        self.values = memoryview(memory).cast("Q")
        self.pairs = Pairs(self.values[FIRST_PAIR:], len(self.parties) - 1)

    def add(self, series: Series) -> int | None:
        """The cell of a new series; ``None`` if there are too many, or it can't be written.

        A name goes to the list before its cell is used.
        """
        if len(self.names) == SERIES_LIMIT:
            return None
        if not self._write(series):
            return None
        self.names.append(series)
        return FIRST + len(self.names) - 1

    def add_party(self, name: str) -> int | None:
        """The number of a new party; ``None`` if there are too many, or it can't be written."""
        if len(self.parties) == MOST_PARTIES or not self._write(name):
            return None
        self.parties.append(name)
        return len(self.parties) - 1

    def indices(self) -> dict[Series, int]:
        """The cell of each series."""
        return {series: FIRST + number for number, series in enumerate(self.names)}

    def numbers(self) -> dict[str, int]:
        """The number of each party."""
        return {name: number for number, name in enumerate(self.parties) if number}

    def reading(self) -> Reading:
        """What has been counted so far."""
        return _reading(self.values, self.names, self.parties)

    def close(self) -> None:
        """Leave the file to whoever comes next."""
        self.pairs.release()
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
        known, parties, length = _parsed(path.with_suffix(_NAMES).read_bytes())
        self.names.extend(known)
        self.parties.extend(parties)
        self._list = _Names(descriptor, length)
        # After a power cut the cells may know of more than the names do.
        nameless, end = 8 * (FIRST + len(self.names)), 8 * FIRST_PAIR
        if memory[nameless:end].strip(b"\0"):
            memory[nameless:end] = bytes(end - nameless)
        return memory

    def _write(self, name: Series | str) -> bool:
        return self._list is None or self._list.add(orjson.dumps(name) + b"\n")


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
            names, parties, _ = _parsed(path.with_suffix(_NAMES).read_bytes())
            content = _content(path)
        except FileNotFoundError:
            continue
        if len(content) == SIZE:
            values = memoryview(content).cast("Q")
            yield _reading(values, [*FIXED, *names], [*_UNNAMED, *parties])


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


def _parsed(content: bytes) -> tuple[list[Series], list[str], int]:
    """Series and parties in a file up to the first name that is not whole, and their bytes.

    What no name has been written to is zeros.
    """
    names: list[Series] = []
    parties: list[str] = []
    length = 0
    for line in content.partition(b"\0")[0].splitlines(keepends=True):
        try:
            name = orjson.loads(line)
        except ValueError:
            break
        if not line.endswith(b"\n"):
            break
        if isinstance(name, str):
            parties.append(name)
        else:
            names.append(tuple(name))
        length += len(line)
    return names, parties, length


def _reading(values: memoryview, names: list[Series], parties: list[str]) -> Reading:
    named = zip(names, values[FIRST : FIRST + len(names)].tolist(), strict=True)
    return Reading(values[:FIRST], (*named, *_decisions(values[FIRST_PAIR:], parties)))


def _decisions(cells: memoryview, parties: list[str]) -> Iterator[tuple[Series, int]]:
    for key, count in counted(cells):
        source, destination, allowed = parts_of(key)
        # A party that was added while this was read has no name here yet.
        if max(source, destination) < len(parties):
            verdict = "allow" if allowed else "deny"
            yield (DECISIONS, verdict, parties[source], parties[destination]), count
