"""A store in a folder, for the local mesh: whoever may read the folder may read the keys."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from gateway.keys.store import MalformedError, MissingError, Version

_DISABLED = ".disabled"
_DESCRIPTION = "description"


@dataclass(frozen=True, slots=True)
class Directory:
    """A project in a folder: each secret a folder, each version a file named by its number."""

    root: Path

    def read(self, path: str, version: int | None = None) -> Mapping[str, str]:
        """See ``KeyStore``."""
        number = version or max((item.number for item in self.versions(path)), default=0)
        try:
            return _texts((self._folder(path) / str(number)).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise MissingError(f"{self.root} has no {path}, version {number or 'any'}") from None
        except ValueError:
            raise MalformedError(
                f"{self._folder(path) / str(number)} is no mapping of texts"
            ) from None

    def write(self, path: str, value: Mapping[str, str]) -> int:
        """See ``KeyStore``."""
        number = max((item.number for item in self.versions(path)), default=0) + 1
        folder = self._folder(path)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _create(folder / str(number), value)
        return number

    def versions(self, path: str) -> tuple[Version, ...]:
        """See ``KeyStore``."""
        folder = self._folder(path)
        files = (
            [file for file in folder.iterdir() if file.stem.isdigit()] if folder.exists() else []
        )
        found = [_version(file) for file in files]
        return tuple(sorted(found, key=lambda item: item.number))

    def disable(self, path: str, version: int) -> None:
        """See ``KeyStore``."""
        file = self._folder(path) / str(version)
        if not file.with_suffix(_DISABLED).exists():
            try:
                file.rename(file.with_suffix(_DISABLED))
            except FileNotFoundError:
                raise MissingError(f"{self.root} has no {path}, version {version}") from None

    def describe(self, path: str, facts: Mapping[str, str]) -> None:
        """See ``KeyStore``."""
        folder = self._folder(path)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        unfinished = folder / f"{_DESCRIPTION}.new"
        unfinished.unlink(missing_ok=True)
        _create(unfinished, facts)
        unfinished.rename(folder / _DESCRIPTION)

    def description(self, path: str) -> Mapping[str, str]:
        """See ``KeyStore``."""
        file = self._folder(path) / _DESCRIPTION
        return _texts(file.read_text(encoding="utf-8")) if file.exists() else {}

    def _folder(self, path: str) -> Path:
        folder = self.root / path
        if ".." in folder.parts:
            raise MalformedError(f"{path} leads out of its project")
        return folder


def _version(file: Path) -> Version:
    created = datetime.fromtimestamp(file.stat().st_mtime, UTC)
    return Version(int(file.stem), created, enabled=file.suffix != _DISABLED)


def _texts(text: str) -> Mapping[str, str]:
    found = json.loads(text)
    if not isinstance(found, dict) or not all(isinstance(item, str) for item in found.values()):
        raise ValueError
    return found


def _create(file: Path, value: Mapping[str, str]) -> None:
    """Whole or not at all, and nobody else's: a reader may come at any time."""
    handle, unfinished = tempfile.mkstemp(prefix=".", dir=file.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            json.dump(dict(value), stream)
        # Unlike renaming, this fails where there is one already.
        file.hardlink_to(unfinished)
    finally:
        Path(unfinished).unlink()
