"""The spool: where a record is appended before its decision is answered.

One process appends, on one thread, to segments that are allocated ahead. What ``append`` returned
survives the process. A frame that could not be written whole is written over by the next, or left
behind at a segment's end: it never hides a later one.
"""

from __future__ import annotations

import errno
import logging
import os
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from mmap import mmap
from pathlib import Path
from threading import Condition, Lock, Thread
from zlib import crc32

from engine.audit.layout import (
    BODY,
    HEADER,
    MAX_BODY,
    MAX_LATENCY,
    SPARE,
    allocated,
    new_writer,
    segment_name,
    writer_name,
)
from engine.audit.window import Window

_PATIENCE = 0.05  # seconds for a segment that is just being made
_RETRY = 0.1  # seconds until a segment is tried again for which there was no room

_HEADER = HEADER.size
_FAR = (1 << 63) - 1
_pack_header = HEADER.pack
_pack_body = BODY.pack

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Files:
    """The system calls that a spool depends on."""

    pwrite: Callable[[int, bytes, int], int] = os.pwrite
    pread: Callable[[int, int, int], bytes] = os.pread
    allocate: Callable[[int, int, int], None] = os.posix_fallocate
    datasync: Callable[[int], None] = os.fdatasync
    sync: Callable[[int], None] = os.fsync
    rename: Callable[[Path, Path], None] = os.rename


SYSTEM = Files()


class Spool:
    """The writing end of a spool, for one process.

    A child that is forked while it is open would keep the writer alive: fork before.
    """

    __slots__ = (
        "_allocator",
        "_broken",
        "_descriptor",
        "_failure",
        "_files",
        "_folder",
        "_lock",
        "_mapped",
        "_memory",
        "_offset",
        "_pwrite",
        "_room",
        "_sealed",
        "_segment_bytes",
        "_sequence",
        "_store",
        "_syncing",
        "_unnamed",
        "_window",
        "_window_end",
        "_window_start",
        "_writer",
    )

    def __init__(
        self,
        root: Path,
        *,
        segment_bytes: int,
        limit_bytes: int,
        files: Files = SYSTEM,
        mapped: bool = False,
    ) -> None:
        """Make a writer's folder below ``root``; segments of all writers take ``limit_bytes``.

        ``mapped``: append in memory where the system can, which is for who seldom synchronises. A
        full disk is no error here: ``append`` tells.

        Raises:
            OSError: if there can be no folder.
        """
        self._files = files
        self._pwrite = files.pwrite
        self._writer, self._lock = new_writer(root)
        self._folder = root / writer_name(self._writer)
        self._segment_bytes = segment_bytes
        self._sequence = 0
        self._descriptor = -1
        self._offset = 0
        self._room = 0
        self._sealed: deque[int] = deque()
        self._broken: set[int] = set()
        self._failure: OSError | None = None
        self._unnamed = False
        self._syncing = Lock()
        self._window: Window | None = None
        self._memory: mmap | bytearray = bytearray()
        self._window_start = self._window_end = 0
        self._mapped = mapped
        self._store = self._write
        self._allocator = _Allocator(self._folder, segment_bytes, limit_bytes, files, self._retire)

    @property
    def writer(self) -> int:
        """The number of this process in the trail."""
        return self._writer

    @property
    def folder(self) -> Path:
        """Where this writer's segments are."""
        return self._folder

    @property
    def sequence(self) -> int:
        """The last record's sequence number; 0 if there is none."""
        return self._sequence

    def append(self, outcome: bytes, time_us: int, latency_us: int) -> int:
        """Append a record; its sequence number, from 1.

        Raises:
            OSError: if it could not be appended.
        """
        sequence = self._sequence + 1
        try:
            body = _pack_body(sequence, time_us, latency_us) + outcome
        except struct.error:
            return self._append_clipped(outcome, time_us, latency_us)
        size = len(body)
        if size > MAX_BODY:
            raise OSError(errno.EMSGSIZE, f"a record of {size} bytes is too long")
        frame = _pack_header(size, crc32(body)) + body
        size += _HEADER
        offset = self._offset
        if offset + size > self._room:
            self._advance()
            offset = 0
        if offset + size <= self._window_end:
            at = offset - self._window_start
            self._memory[at : at + size] = frame
        else:
            self._store(frame, offset)
        self._offset = offset + size
        self._sequence = sequence
        return sequence

    def sync(self) -> int:
        """Make all records so far safe against a loss of power; the last one's sequence number.

        For a thread of its own. After an error the segment is never synchronised again, since the
        system would say that all is well: records go on in another one.

        Raises:
            OSError: if some of them may be lost with the machine.
        """
        with self._syncing:
            # In this order: what is sealed meanwhile is found in the list of the sealed.
            target, descriptor = self._sequence, self._descriptor
            if descriptor not in self._sync_sealed() and descriptor >= 0:
                self._sync_active(descriptor)
            failure, self._failure = self._failure, None
            if failure is not None:
                raise failure
            self._sync_names()
        return target

    def close(self) -> None:
        """Release everything; what is not drained stays."""
        self._allocator.close()
        self._unmap()
        if self._descriptor >= 0:
            self._sealed.append(self._descriptor)
        self._descriptor, self._room = -1, 0
        self._retire()
        os.close(self._lock)

    def _append_clipped(self, outcome: bytes, time_us: int, latency_us: int) -> int:
        """Append a record whose numbers don't fit into a frame."""
        time_us = max(-_FAR, min(time_us, _FAR))
        return self.append(outcome, time_us, max(0, min(latency_us, MAX_LATENCY)))

    def _map(self, frame: bytes, offset: int) -> None:
        """Open another window, and store a frame in it.

        Raises:
            OSError: if it could not be stored.
        """
        self._unmap()
        try:
            window = Window(self._descriptor, offset, self._segment_bytes)
        except OSError:
            # Not every system can. If it is the disk, writing says what is wrong with it.
            self._store = self._write
            self._write(frame, offset)
            return
        self._window, self._memory = window, window.memory
        self._window_start, self._window_end = window.start, window.start + window.size
        at = offset - window.start
        self._memory[at : at + len(frame)] = frame

    def _unmap(self) -> None:
        # Nothing ends before it.
        self._window_end = 0
        if self._window is not None:
            self._window.close()
            self._window = None

    def _write(self, frame: bytes, offset: int) -> None:
        """Write a frame.

        Raises:
            OSError: if it could not be written.
        """
        try:
            written = self._pwrite(self._descriptor, frame, offset)
        except OSError:
            written = -1
            if not self._is_there(frame, offset):
                raise
        if written != len(frame) and not self._is_there(frame, offset):
            raise OSError(errno.EIO, f"{written} of {len(frame)} bytes were written")

    def _is_there(self, frame: bytes, offset: int) -> bool:
        """Whether a frame is whole although its writing failed: the drainer may have seen it."""
        try:
            return self._files.pread(self._descriptor, len(frame), offset) == frame
        except OSError:
            return False

    def _advance(self) -> None:
        """Go on in a new segment.

        Raises:
            OSError: if there is none.
        """
        descriptor = self._allocator.take(self._sequence + 1)
        self._unmap()
        self._store = self._map if self._mapped else self._write
        if self._descriptor >= 0:
            self._sealed.append(self._descriptor)
        self._descriptor, self._offset, self._room = descriptor, 0, self._segment_bytes
        self._unnamed = True

    def _retire(self) -> None:
        """Synchronise and close what is sealed."""
        with self._syncing:
            self._sync_sealed()
        if self._failure is not None:
            _log.error("a segment of the spool can't be synchronised: %s", self._failure)

    def _sync_sealed(self) -> set[int]:
        """Synchronise and close what is sealed; the closed descriptors."""
        closed = set()
        while self._sealed:
            descriptor = self._sealed.popleft()
            if descriptor not in self._broken:
                self._sync_segment(descriptor)
            self._broken.discard(descriptor)
            os.close(descriptor)
            closed.add(descriptor)
        return closed

    def _sync_active(self, descriptor: int) -> None:
        if descriptor not in self._broken and not self._sync_segment(descriptor):
            self._broken.add(descriptor)
            if descriptor == self._descriptor:
                self._room = 0

    def _sync_segment(self, descriptor: int) -> bool:
        try:
            self._files.datasync(descriptor)
        except OSError as error:
            self._failure = error
            return False
        return True

    def _sync_names(self) -> None:
        if self._unnamed:
            self._unnamed = False
            try:
                self._files.sync(self._lock)
            except OSError:
                self._unnamed = True
                raise


class _Allocator:
    """Makes the next segment before it is needed, on a thread."""

    def __init__(
        self,
        folder: Path,
        segment_bytes: int,
        limit_bytes: int,
        files: Files,
        retire: Callable[[], None],
    ) -> None:
        """``retire`` is called whenever a segment was taken."""
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._limit_bytes = limit_bytes
        self._files = files
        self._retire = retire
        self._changed = Condition()
        self._spare = -1
        self._error: OSError | None = None
        self._closing = False
        self._thread = Thread(target=self._run, name="spool-allocator", daemon=True)
        self._thread.start()

    def take(self, first: int) -> int:
        """The spare segment, to begin with this record.

        Raises:
            OSError: if there is none.
        """
        with self._changed:
            self._changed.wait_for(self._is_settled, _PATIENCE)
            if self._spare < 0:
                error = self._error
                if error is None:
                    raise OSError(errno.EAGAIN, "the next segment is still being made")
                raise OSError(error.errno, error.strerror)
            self._files.rename(self._folder / SPARE, self._folder / segment_name(first))
            descriptor, self._spare = self._spare, -1
            self._changed.notify_all()
        return descriptor

    def close(self) -> None:
        """End the thread, and remove the spare segment."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()
        if self._spare >= 0:
            os.close(self._spare)
            (self._folder / SPARE).unlink(missing_ok=True)

    def _is_settled(self) -> bool:
        return self._spare >= 0 or self._error is not None

    def _is_needed(self) -> bool:
        return self._closing or self._spare < 0

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(self._is_needed)
                if self._closing:
                    return
            self._retire()
            self._try()

    def _try(self) -> None:
        try:
            made, failure = self._make(), None
        except OSError as error:
            made, failure = -1, error
        with self._changed:
            self._spare, self._error = made, failure
            self._changed.notify_all()
            if failure is not None:
                self._changed.wait_for(lambda: self._closing, _RETRY)

    def _make(self) -> int:
        """A file descriptor of a new spare segment, all zeros.

        Raises:
            OSError: if there is no room for it.
        """
        if allocated(self._folder.parent) + self._segment_bytes > self._limit_bytes:
            raise OSError(errno.EDQUOT, "the spool has reached its limit")
        path = self._folder / SPARE
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            self._files.allocate(descriptor, 0, self._segment_bytes)
        except OSError:
            os.close(descriptor)
            path.unlink(missing_ok=True)
            raise
        return descriptor
