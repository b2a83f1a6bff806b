"""Layers: tars of files, made once and kept under a digest of what they were made from."""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lab.images.archive import Blob, layer, layer_known

_DIGITS = 16
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

    def made(self, name: str, key: str, make: Callable[[Path], None]) -> Blob:
        """The layer of that name and key, made by ``make`` (the tar to write) if need be."""
        tar = self.folder / "layers" / f"{name}-{key}.tar"
        if (known := tar.with_suffix(".digest")).exists():
            return layer_known(tar, known.read_text())
        tar.parent.mkdir(parents=True, exist_ok=True)
        unfinished = tar.with_suffix(f".{os.getpid()}")
        make(unfinished)
        unfinished.rename(tar)
        blob = layer(tar)
        known.write_text(blob.digest)
        return blob


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
    return shop.made(name, key, lambda tar: _write(tar, wanted, unwanted))


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
