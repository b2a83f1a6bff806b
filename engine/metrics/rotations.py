"""Who changed its certificate, told once however many workers see it.

Workers share a table that has, for each service at an address, its latest certificate and the one
before: connections of one sidecar may present either for a while, and going back is no rotation.
"""

from __future__ import annotations

import fcntl
import logging
import mmap
import os
from collections import OrderedDict
from hashlib import blake2b
from pathlib import Path

_NAME = "certificates"
# A place has three cells: who, the latest certificate, the one before.
_PLACES = 1 << 14
_PROBES = 8
_PLACE = 3
SIZE = 8 * _PLACE * _PLACES

_log = logging.getLogger(__name__)


class Rotations:
    """The certificates that peers presented lately; bounded, the shared table as well."""

    def __init__(self, folder: Path | None) -> None:
        """Share a table in a folder, or have one to itself."""
        self._seen: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._lock = -1
        memory: mmap.mmap | bytearray = bytearray(SIZE)
        if folder is not None:
            try:
                memory = self._shared(folder)
            except OSError as error:
                _log.error("rotations are told by each worker alone: %s", error.strerror)
        self._table = memoryview(memory).cast("Q")

    def changed(self, service: str, address: str, certificate: str | bytes) -> bool:
        """Whether it is another certificate than before, and nobody has told so yet."""
        who, seen = (service, address), hash(certificate)
        if self._seen.get(who) == seen:
            return False
        self._seen[who] = seen
        if len(self._seen) > _PLACES:
            self._seen.popitem(last=False)
        content = certificate.encode() if isinstance(certificate, str) else certificate
        return self._told(_digest(f"{service} {address}".encode()), _digest(content))

    def _told(self, who: int, certificate: int) -> bool:
        if self._lock == -1:
            return self._note(who, certificate)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            return self._note(who, certificate)
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)

    def _note(self, who: int, certificate: int) -> bool:
        place = self._place(who)
        known, latest, before = self._table[place : place + _PLACE].tolist()
        if known != who:
            latest = before = 0
        if certificate in {latest, before}:
            return False
        # Who comes last: of a worker that is killed here, nothing wrong is left.
        self._table[place] = 0
        self._table[place + 2] = latest
        self._table[place + 1] = certificate
        self._table[place] = who
        return latest != 0

    def _place(self, who: int) -> int:
        """Where it is, or a free place, or one that is taken from somebody else."""
        places = [_PLACE * ((who + step) % _PLACES) for step in range(_PROBES)]
        for place in places:
            if self._table[place] in {who, 0}:
                return place
        return places[0]

    def _shared(self, folder: Path) -> mmap.mmap:
        self._lock = os.open(folder / _NAME, os.O_RDWR | os.O_CREAT, 0o640)
        os.posix_fallocate(self._lock, 0, SIZE)
        return mmap.mmap(self._lock, SIZE)


def _digest(content: bytes) -> int:
    """Of 64 bits, and not 0: that is an empty cell."""
    return int.from_bytes(blake2b(content, digest_size=8).digest(), "little") or 1
