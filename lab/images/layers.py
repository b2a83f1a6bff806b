"""Layers: tars of files, made once and kept under a digest of what they were made from."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab.images.archive import Blob, layer

_DIGITS = 16
# Seconds; two weeks.
_KEPT = 14 * 86400.0
_READABLE, _FOLDER = 0o444, 0o755


@dataclass(frozen=True, slots=True)
class Placed:
    """A file or a tree of this machine, and where it is in the image."""

    source: Path
    target: str


@dataclass(frozen=True, slots=True)
class Workshop:
    """Where images are made: the cache's folder, and who is told of each step."""

    folder: Path
    report: Callable[[str], None]

    def layer(self, name: str, key: str, make: Callable[[Path], None]) -> Blob:
        """The layer of that name and key, made by ``make`` (the tar to write) if need be."""
        tar = self.made(f"layers/{name}-{key}.tar", make)
        known = self.made(f"layers/{name}-{key}.digest", lambda path: _note_digest(tar, path))
        return layer(tar, known.read_text())

    def made(self, name: str, make: Callable[[Path], None]) -> Path:
        """What lies under a name in the cache, made by ``make`` (the path to make) if need be."""
        path = self.folder / name
        if not path.exists():
            unfinished = path.with_name(f"{path.name}.new")
            _remove(unfinished)
            path.parent.mkdir(parents=True, exist_ok=True)
            make(unfinished)
            unfinished.rename(path)
        os.utime(path)
        return path

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else works in the folder meanwhile."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def tidy(self) -> None:
        """Remove what was not used for weeks."""
        oldest = time.time() - _KEPT
        for path in self.folder.glob("*/*"):
            if path.stat().st_mtime < oldest:
                _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _note_digest(tar: Path, path: Path) -> None:
    with tar.open("rb") as stream:
        path.write_text(f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}")


def digest(*inputs: object) -> str:
    """The key of what is made from some inputs, by their JSON."""
    text = json.dumps(inputs, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def of_files(
    shop: Workshop, name: str, version: str, files: Iterable[Placed], without: Iterable[str] = ()
) -> Blob:
    """A layer of files, but those whose path has one of ``without`` in it.

    Another ``version`` of the files is another layer.
    """
    wanted, unwanted = tuple(files), tuple(without)
    key = digest(version, [item.target for item in wanted], unwanted)
    return shop.layer(name, key, lambda tar: _write(tar, wanted, unwanted))


def _write(tar: Path, files: tuple[Placed, ...], without: tuple[str, ...]) -> None:
    def chosen(header: tarfile.TarInfo) -> tarfile.TarInfo | None:
        return None if any(part in header.name for part in without) else _anonymous(header)

    with tarfile.open(tar, "w") as archive:
        for folder in sorted({folder for item in files for folder in _above(item.target)}):
            header = tarfile.TarInfo(folder)
            header.type, header.mode = tarfile.DIRTYPE, _FOLDER
            archive.addfile(header)
        for item in files:
            archive.add(item.source, item.target, filter=chosen)


def _above(target: str) -> Iterator[str]:
    parts = target.split("/")[:-1]
    return ("/".join(parts[:count]) for count in range(1, len(parts) + 1))


def _anonymous(header: tarfile.TarInfo) -> tarfile.TarInfo:
    """Root's, readable to all, of no time: the same files make the same layer anywhere."""
    header.uid = header.gid = header.mtime = 0
    header.uname = header.gname = ""
    header.mode |= _READABLE | (_FOLDER if header.isdir() else 0)
    return header
