"""What the compiler puts out: files, each one object, for one cluster."""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zt.emit import plain, to_yaml
from zt.facts import Facts


@dataclass(frozen=True, slots=True)
class CompiledFile:
    """One compiled object.

    ``content`` is a JSON value, which may carry comments (``zt.emit.note``) and is written as YAML,
    or text that is written as it is. ``path`` is relative, with ``/``.
    """

    path: str
    content: Any
    header: str = ""

    def text(self) -> str:
        """The file as it is written."""
        if isinstance(self.content, str):
            return self.content
        return to_yaml(self.content, self.header)

    def manifest(self) -> Any:  # noqa: ANN401 - any JSON value
        """The bare object, without comments."""
        return plain(self.content)


def _path(file: CompiledFile) -> str:
    return file.path


@dataclass(frozen=True, slots=True)
class Bundle:
    """Everything compiled for one cluster; a place outside Kubernetes has no facts.

    ``files`` come in any order, and are kept in that of their paths.
    """

    cluster: str
    files: tuple[CompiledFile, ...]
    facts: Facts | None = None

    def __post_init__(self) -> None:
        """Order the files, by which they are found."""
        object.__setattr__(self, "files", tuple(sorted(self.files, key=_path)))

    def under(self, folder: str) -> Iterator[CompiledFile]:
        """The files below a folder, such as ``networkpolicies``."""
        first = bisect_left(self.files, f"{folder}/", key=_path)
        # "0" is what comes next after "/".
        last = bisect_left(self.files, f"{folder}0", first, key=_path)
        return iter(self.files[first:last])

    def file(self, path: str) -> CompiledFile:
        """The file at a path.

        Raises:
            KeyError: if there is none.
        """
        place = bisect_left(self.files, path, key=_path)
        if place < len(self.files) and self.files[place].path == path:
            return self.files[place]
        raise KeyError(path)

    def digest(self) -> str:
        """SHA-256 over all paths and texts."""
        digest = hashlib.sha256()
        for file in self.files:
            digest.update(f"{file.path}\0{file.text()}\0".encode())
        return digest.hexdigest()

    def write(self, folder: Path) -> None:
        """Write all files below a folder."""
        for file in self.files:
            target = folder / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(file.text(), encoding="utf-8")
