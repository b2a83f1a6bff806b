"""The reading end of the spool: one writer's records in their order, also while it writes.

Nothing is passed over in silence. A frame that is not whole is the end, as long as more may come.
Behind it may lie nothing that was acknowledged, unless later records say otherwise: then those
between are reported as lost, and the segment is put aside instead of deleted.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from zlib import crc32

from engine.audit.layout import (
    BODY,
    COMMITTED,
    HEADER,
    MAX_BODY,
    QUARANTINE,
    SPARE,
    lock,
    segment_name,
    segments,
    sync_folder,
    writer_name,
)

_CHUNK = 1 << 18
_WINDOW = 1 << 20
_HEAD = HEADER.size
_LONGEST = HEADER.size + MAX_BODY
_ZEROS = bytes(_WINDOW + _LONGEST)
# How a frame begins: a short length, a checksum, a sequence number below 2**40 that is not 0.
_LIKELY = re.compile(rb"(?=(?!\0\0)..\0\0.{4}(?!\0{5}).{5}\0{3})", re.DOTALL)

_header = HEADER.unpack_from
_sequence = struct.Struct("<Q").unpack_from

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Records:
    """Frames' bodies, in order; the first has this sequence number."""

    first: int
    bodies: list[bytes]

    @property
    def last(self) -> int:
        """The last one's sequence number."""
        return self.first + len(self.bodies) - 1


@dataclass(frozen=True, slots=True)
class Gap:
    """Records that cannot be read any more."""

    first: int
    last: int


@dataclass
class _Segment:
    """A segment that is read: the record at ``offset`` should have the number ``at``."""

    first: int
    descriptor: int
    offset: int
    at: int


class Tail:
    """The records of one writer behind a given one.

    A dead writer's folder is locked by its tail.
    """

    def __init__(self, root: Path, writer: int) -> None:
        """Nothing is opened before ``read``."""
        self.root = root
        self.writer = writer
        self.folder = root / writer_name(writer)
        self.expected = 1
        self.ended = False
        self._held: int | None = None
        self._segment: _Segment | None = None
        self._before: tuple[int, _Segment | None] = 1, None

    @property
    def dead(self) -> bool:
        """Whether the writer was found dead."""
        return self._held is not None

    def is_dead(self) -> bool:
        """Whether nothing is appended any more.

        Raises:
            OSError: if the folder is gone.
        """
        if self._held is None:
            self._held = lock(self.folder)
        return self._held is not None

    def seek(self, recorded: int) -> None:
        """Go on behind the last record that the trail has."""
        self.ended = False
        self.expected = recorded + 1
        if self._segment is not None and self._segment.at != self.expected:
            self._leave()

    def back(self) -> None:
        """Undo the last ``read``."""
        self.expected, before = self._before
        self.ended = False
        if before is None or self._segment is None or before.first != self._segment.first:
            self._leave()
        else:
            self._segment.offset, self._segment.at = before.offset, before.at

    def read(self, limit: int) -> Records | Gap | None:
        """The next records, at most so many; ``None`` where there is none for now.

        ``ended`` tells whether there will be none.

        Raises:
            OSError: if the disk fails.
        """
        self._before = self.expected, self._segment and replace(self._segment)
        # In this order: what is locked or listed is complete, and is read only then.
        dead = self.is_dead()
        firsts = segments(self.folder)
        bodies: list[bytes] = []
        while len(bodies) < limit:
            segment = self._segment or self._enter(firsts)
            if segment is not None and self._parse(segment, bodies, limit):
                continue
            here = segment.first if segment is not None else 0
            following = next((first for first in firsts if first > here), None)
            if following is not None and following <= self.expected:
                self._leave()
            elif bodies or (following is None and not dead):
                if segment is not None and segment.offset == 0:
                    # Nothing is in it, so the writer may yet put another in its place.
                    self._leave()
                break
            else:
                gap = self._beyond(segment, following)
                if gap is not None or self.ended:
                    return gap
        return Records(self.expected - len(bodies), bodies) if bodies else None

    def oldest_us(self) -> int | None:
        """The time of the next record, in microseconds since the epoch, or of one before.

        Raises:
            OSError: if the disk fails.
        """
        if self.ended:
            return None
        here = self._segment
        if here is not None:
            found = _time(os.pread(here.descriptor, _LONGEST, here.offset))
            if found is not None:
                return found
        firsts = segments(self.folder)
        later = (
            [first for first in firsts if first > here.first]
            if here is not None
            else _from(firsts, self.expected)
        )
        for first in later:
            with contextlib.suppress(FileNotFoundError), _opened(self.folder, first) as descriptor:
                return _time(os.pread(descriptor, _LONGEST, 0))
        return None

    def release(self, recorded: int) -> None:
        """Delete the segments of which the trail has everything.

        Raises:
            OSError: if the disk fails.
        """
        firsts = segments(self.folder)
        ends = firsts[1:]
        if self.ended and self.expected == recorded + 1:
            ends.append(self.expected)
        for first, end in zip(firsts, ends, strict=False):
            if end <= recorded + 1:
                (self.folder / segment_name(first)).unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove a dead writer's folder after it was read and released.

        Raises:
            OSError: if something else is in it, or the disk fails.
        """
        for name in (SPARE, COMMITTED):
            (self.folder / name).unlink(missing_ok=True)
        self.folder.rmdir()

    def close(self) -> None:
        """Let go of files and of the lock."""
        self._leave()
        if self._held is not None:
            os.close(self._held)
            self._held = None

    def _enter(self, firsts: list[int]) -> _Segment | None:
        """Open the segment that should have the next record; ``None`` if there is none.

        A segment that has vanished is taken from the list.
        """
        while before := [first for first in firsts if first <= self.expected]:
            first = before[-1]
            try:
                descriptor = os.open(self.folder / segment_name(first), os.O_RDONLY)
            except FileNotFoundError:
                firsts.remove(first)
            else:
                self._segment = _Segment(first, descriptor, 0, first)
                return self._segment
        return None

    def _leave(self) -> None:
        if self._segment is not None:
            os.close(self._segment.descriptor)
            self._segment = None

    def _parse(self, segment: _Segment, bodies: list[bytes], limit: int) -> bool:
        """Take whole frames into ``bodies`` up to a limit; whether there was any frame."""
        chunk = os.pread(segment.descriptor, _CHUNK, segment.offset)
        position, end, at, expected = 0, len(chunk), segment.at, self.expected
        room = limit - len(bodies)
        while position + _HEAD <= end and room:
            size, checksum = _header(chunk, position)
            stop = position + _HEAD + size
            if not BODY.size <= size <= MAX_BODY or stop > end:
                break
            body = chunk[position + _HEAD : stop]
            if crc32(body) != checksum or _sequence(body)[0] != at:
                break
            if at == expected:
                bodies.append(body)
                expected += 1
                room -= 1
            at += 1
            position = stop
        segment.offset += position
        segment.at, self.expected = at, expected
        return position > 0

    def _beyond(self, segment: _Segment | None, following: int | None) -> Gap | None:
        """Go on behind what cannot be read and never will be."""
        found = _later(segment, following) if segment is not None else None
        if segment is not None and found is not None:
            self._put_aside(segment)
            segment.offset, segment.at = found
            return self._missing(segment.at)
        if segment is not None and following is not None:
            self._put_aside(segment)
        self._leave()
        if following is None:
            self.ended = True
            return None
        return self._missing(following)

    def _missing(self, following: int) -> Gap | None:
        if following <= self.expected:
            return None
        gap = Gap(self.expected, following - 1)
        self.expected = following
        _log.error(
            "records %d to %d of writer %015x cannot be read", gap.first, gap.last, self.writer
        )
        return gap

    def _put_aside(self, segment: _Segment) -> None:
        """Keep a damaged segment by another name, for whoever looks into it."""
        folder = self.root / QUARANTINE
        folder.mkdir(mode=0o700, exist_ok=True)
        name = segment_name(segment.first)
        with contextlib.suppress(FileExistsError):
            (folder / f"{self.folder.name}-{name}").hardlink_to(self.folder / name)
            sync_folder(folder)
            _log.error("segment %s of writer %s is damaged and kept", name, self.folder.name)


def _later(segment: _Segment, following: int | None) -> tuple[int, int] | None:
    """The offset and number of the next whole frame behind a damaged one."""
    bound = following or 1 << 40
    offset = segment.offset
    while window := os.pread(segment.descriptor, _WINDOW + _LONGEST, offset):
        # Nearly always it is all zeros, which is soon told.
        end = len(window.rstrip(b"\0")) if window != _ZEROS[: len(window)] else 0
        for match in _LIKELY.finditer(window, 0, end):
            if match.start() >= _WINDOW:
                break
            number = _whole(window, match.start())
            if number is not None and segment.at < number < bound:
                return offset + match.start(), number
        offset += _WINDOW
    return None


def _from(firsts: list[int], wanted: int) -> list[int]:
    """The segments from the one on that should have a record."""
    before = [first for first in firsts if first <= wanted]
    return before[-1:] + firsts[len(before) :]


@contextlib.contextmanager
def _opened(folder: Path, first: int) -> Iterator[int]:
    descriptor = os.open(folder / segment_name(first), os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _time(chunk: bytes) -> int | None:
    """The time in a frame, if it is whole."""
    if len(chunk) < _HEAD or _whole(chunk, 0) is None:
        return None
    return int(BODY.unpack_from(chunk, _HEAD)[1])


def _whole(window: bytes, position: int) -> int | None:
    """The sequence number of a frame, if it is whole."""
    size, checksum = _header(window, position)
    body = window[position + _HEAD : position + _HEAD + size]
    if size < BODY.size or len(body) != size or crc32(body) != checksum:
        return None
    return int(_sequence(body)[0])
