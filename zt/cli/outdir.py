"""Compiled files into a folder that is ours alone, so that it never holds a file of an old policy.

A manifest in the folder lists what was written. Everything is written beside first and then moved
in, file by file; whenever that is interrupted, the next run knows every file and puts it right.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from zt.bundle import Bundle
from zt.cli.output import Misuse

MANIFEST = ".zt-manifest"
_INCOMING = ".zt-incoming"


def write(bundle: Bundle, folder: Path) -> None:
    """Make a folder hold the files of a bundle and nothing else.

    Raises:
        Misuse: if it holds a file that was not written here.
        OSError: if it cannot be written.
    """
    old, new = _manifest(folder), [file.path for file in bundle.files]
    _refuse_others(folder, old)
    folder.mkdir(parents=True, exist_ok=True)
    incoming = folder / _INCOMING
    shutil.rmtree(incoming, ignore_errors=True)
    incoming.mkdir()
    bundle.write(incoming)
    _write_manifest(folder, {*old, *new})
    for path in new:
        _move(incoming / path, folder / path)
    for path in sorted(old - set(new)):
        _remove(folder, PurePosixPath(path))
    _write_manifest(folder, new)
    shutil.rmtree(incoming)


def _manifest(folder: Path) -> set[str]:
    try:
        lines = (folder / MANIFEST).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return set()
    except NotADirectoryError:
        raise Misuse(f"{folder} is a file: name a folder") from None
    return {line for line in lines if not line.startswith("#")}


def _write_manifest(folder: Path, paths: Iterable[str]) -> None:
    text = "\n".join(
        ["# Written by zt compile, which removes what is listed here.", *sorted(paths)]
    )
    incoming = folder / _INCOMING / MANIFEST
    incoming.write_text(f"{text}\n", encoding="utf-8")
    incoming.replace(folder / MANIFEST)


def _refuse_others(folder: Path, known: set[str]) -> None:
    for path in _files(folder):
        if path not in known:
            raise Misuse(f"{folder} holds {path}, which zt did not write: name a folder of its own")


def _files(folder: Path) -> Iterator[str]:
    """What is in the folder, beside our own bookkeeping."""
    for parent, folders, files in os.walk(folder):
        here = Path(parent).relative_to(folder)
        if here == Path():
            folders[:] = [name for name in folders if name != _INCOMING]
            files = [name for name in files if name != MANIFEST]  # noqa: PLW2901 - of the top alone
        links = [name for name in folders if Path(parent, name).is_symlink()]
        yield from ((here / name).as_posix() for name in sorted([*files, *links]))


def _move(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    source.replace(target)


def _remove(folder: Path, path: PurePosixPath) -> None:
    """Remove a file, and the folders that it leaves empty."""
    (folder / path).unlink(missing_ok=True)
    for parent in path.parents[:-1]:
        try:
            (folder / parent).rmdir()
        except OSError:
            return
