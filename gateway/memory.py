"""Writes keys to files that are in memory alone."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

# statfs(2): what the kernel calls its two kinds of file systems that never touch a disk.
_IN_MEMORY = {0x01021994: "tmpfs", 0x858458F6: "ramfs"}
# More than any kernel's `struct statfs`, whose first member is the type.
_STATFS = 256


class NotInMemoryError(Exception):
    """A folder is on a disk, where a key must never be; the message is a sentence."""


def check_memory(folder: Path) -> None:
    """See that a folder is in memory.

    Raises:
        NotInMemoryError: if it is not.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        _check(handle, folder)
    finally:
        os.close(handle)


def write_keys(folder: Path, files: Mapping[str, str]) -> None:
    """Write files that only this user reads (0400), in place of those of the same names.

    Raises:
        NotInMemoryError: if the folder is not in memory.
        ValueError: if a name is no plain file name.
    """
    for name in files:
        if not _is_plain(name):
            raise ValueError(f"{name!r} can't be the name of a file")
    # By the folder's handle: what was checked is what is written to.
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        _check(handle, folder)
        for name, text in files.items():
            _write(handle, name, text.encode())
    finally:
        os.close(handle)


def _write(folder: int, name: str, content: bytes) -> None:
    """Under another name first: a reader finds all of it, the old one or the new one."""
    unfinished = f".{name}.new"
    with suppress(FileNotFoundError):
        os.unlink(unfinished, dir_fd=folder)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(unfinished, flags, 0o400, dir_fd=folder)
    with os.fdopen(handle, "wb") as stream:
        stream.write(content)
    os.rename(unfinished, name, src_dir_fd=folder, dst_dir_fd=folder)


def _check(handle: int, folder: Path) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    found = ctypes.create_string_buffer(_STATFS)
    if library.fstatfs(handle, found):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(folder))
    kind = ctypes.c_ulong.from_buffer(found).value & 0xFFFFFFFF
    if kind not in _IN_MEMORY:
        raise NotInMemoryError(f"{folder} is on a disk (file system {kind:#x}), not in memory")


def _is_plain(name: str) -> bool:
    return bool(name) and not name.startswith(".") and "/" not in name and name.isprintable()
