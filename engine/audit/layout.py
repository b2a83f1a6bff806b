"""How the spool lies on disk: folders of writers, their segments, the frames in them.

A writer's folder has its number's name and is locked while the writer lives. A segment has the
name of the first record in it, so the next one says where this one ends.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from engine.audit.outcome import WRITER_BITS

# Length and CRC-32 of the body; the body is sequence, time and latency in microseconds, outcome.
FRAME = struct.Struct("<IIQqi")
HEADER = struct.Struct("<II")
BODY = struct.Struct("<Qqi")
# What the drainer tells: the last record that was lost, and the last one that is committed.
PROGRESS = struct.Struct("<QQ")
MAX_BODY = (1 << 16) - HEADER.size
MAX_LATENCY = (1 << 31) - 1

# Datagrams: the drainer tells a writer what is committed, a writer asks the drainer to hurry.
COMMITTED = "committed"
HURRY = "hurry"
QUARANTINE = "quarantine"
SPARE = "spare"

_SEGMENT = re.compile(r"([0-9]{20})\.segment")
_WRITER = re.compile(r"[0-9a-f]{15}")


def segment_name(first: int) -> str:
    """The name of the segment whose first record has this sequence number."""
    return f"{first:020}.segment"


def writer_name(writer: int) -> str:
    """The name of a writer's folder."""
    return f"{writer:015x}"


def segments(folder: Path) -> list[int]:
    """The first sequence number of each segment in a folder, ascending; none if it is gone."""
    try:
        names = [entry.name for entry in folder.iterdir()]
    except FileNotFoundError:
        return []
    return sorted(int(match[1]) for match in map(_SEGMENT.fullmatch, names) if match)


def writers(root: Path) -> list[int]:
    """The writers that have a folder in a spool."""
    names = (entry.name for entry in root.iterdir())
    return sorted(int(name, 16) for name in names if _WRITER.fullmatch(name))


def new_writer(root: Path) -> tuple[int, int]:
    """Make a folder for a new writer; its number, and the folder's locked file descriptor.

    Raises:
        OSError: if it can't be made.
    """
    writer = secrets.randbits(WRITER_BITS)
    # It gets its name once it is locked: else it might be taken for a dead writer's.
    unnamed = root / f"new-{writer_name(writer)}"
    unnamed.mkdir(mode=0o700, parents=True)
    held = lock(unnamed)
    if held is None:  # pragma: no cover - the name was drawn this instant
        raise BlockingIOError(f"{unnamed} is another's")
    unnamed.rename(root / writer_name(writer))
    sync_folder(root)
    return writer, held


def lock(folder: Path) -> int | None:
    """Lock a folder: a file descriptor to be kept open, or ``None`` if another has it.

    Raises:
        OSError: if there is no such folder.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


@contextmanager
def short(folder: Path) -> Iterator[str]:
    """A folder by a name that is short enough for the address of a socket in it.

    Raises:
        OSError: if it is gone.
    """
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def listen(folder: Path, name: str) -> socket.socket:
    """A socket that takes datagrams in a folder, and does not block.

    Raises:
        OSError: if it can't be made.
    """
    (folder / name).unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listening.settimeout(0)
    with short(folder) as place:
        listening.bind(f"{place}/{name}")
    return listening


def tell(sender: socket.socket, folder: Path, name: str, message: bytes) -> None:
    """Send a datagram to a socket in a folder, if anybody listens and has room for it."""
    with suppress(OSError), short(folder) as place:
        sender.sendto(message, f"{place}/{name}")


def quarantine(root: Path, name: str, content: bytes) -> None:
    """Keep something that can't be drained, for whoever looks into it.

    Raises:
        OSError: if it can't be written.
    """
    folder = root / QUARANTINE
    folder.mkdir(mode=0o700, exist_ok=True)
    with (folder / name).open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Make what was named or removed in a folder safe against a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def allocated(root: Path) -> int:
    """The bytes of all segments of a spool, spare ones included."""
    total = 0
    for writer in writers(root):
        try:
            with os.scandir(root / writer_name(writer)) as entries:
                total += sum(_size(entry) for entry in entries)
        except FileNotFoundError:
            continue
    return total


def _size(entry: os.DirEntry[str]) -> int:
    if entry.name != SPARE and not _SEGMENT.fullmatch(entry.name):
        return 0
    try:
        return entry.stat().st_size
    except FileNotFoundError:
        return 0
