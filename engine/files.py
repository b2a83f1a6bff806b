"""Files that are replaced whole: whoever reads finds the old one or the new one."""

from __future__ import annotations

import os
from pathlib import Path

_ORDINARY = 0o644


def write_whole(path: Path, content: bytes, mode: int = _ORDINARY) -> None:
    """Write a file, with its permissions from the first byte on.

    Raises:
        OSError: if it can't be written; the old one is then as it was.
    """
    fresh = _draft(path)
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    fresh.replace(path)


def link_whole(link: Path, target: str) -> None:
    """Lead a symbolic link to another target.

    Raises:
        OSError: if that can't be done; the link then leads to where it did.
    """
    fresh = _draft(link)
    fresh.symlink_to(target)
    fresh.replace(link)


def _draft(path: Path) -> Path:
    """Where it is made: hidden, so that nobody takes it for what it becomes; left by none."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    return fresh
