"""Whether the files of a policy changed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

_DATA_LINK = "..data"


def fingerprint(root: Path) -> object:
    """Changes when a policy file does, or the link that a ConfigMap mount swaps."""
    try:
        data = root / _DATA_LINK
        link = data.readlink() if data.is_symlink() else None
        return link, tuple(_stats(root))
    except OSError as error:
        return error.errno, str(error.filename)


def _stats(root: Path) -> Iterator[tuple[str, int, int, int]]:
    for file in policy_files(root):
        stat = file.stat()
        yield str(file), stat.st_mtime_ns, stat.st_size, stat.st_ino


def policy_files(root: Path) -> list[Path]:
    """The files that are read at a path."""
    if not root.is_dir():
        return [root]
    found = (path for path in root.rglob("*.y*ml") if path.is_file())
    return sorted(path for path in found if not _is_hidden(path.relative_to(root)))


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
