"""Where the policies are kept that the API changes: a folder, or a ConfigMap.

Both hold files by name, and both refuse a change of what has become another since it was read.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from engine.kubernetes.client import CONFLICT, Json, Kubernetes, KubernetesError, config_map_path
from engine.policy.changes import fingerprint, policy_files

_SUFFIXES = (".yaml", ".yml")
_PATIENCE = 5.0
_READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)


class SourceError(Exception):
    """The policies can't be read or written; the message is one sentence."""


class ReadOnlyError(SourceError):
    """The policies can't be written here at all."""


class BusyError(SourceError):
    """Another change is being made."""


class StaleError(SourceError):
    """The policies are others than those that were read."""


class Source(Protocol):
    """Files of policies."""

    def read(self) -> Mapping[str, bytes]:
        """Contents by name.

        Raises:
            SourceError: if they can't be read.
        """

    def write(self, name: str, content: bytes) -> None:
        """Put a file in the place of the one that was read, or beside those that were.

        Raises:
            StaleError: if anything was changed since.
            SourceError: if that can't be done.
        """


@dataclass
class FolderSource:
    """The files below a folder, or one file. Only for use in ``locked``."""

    path: Path
    _seen: object = None

    def read(self) -> Mapping[str, bytes]:
        """See ``Source``."""
        self._seen = fingerprint(self.path)
        try:
            return {self._name(file): file.read_bytes() for file in policy_files(self.path)}
        except OSError as error:
            raise SourceError(f"{error.filename} cannot be read: {error.strerror}") from None

    def write(self, name: str, content: bytes) -> None:
        """See ``Source``: whole, or not at all, whenever the machine stops."""
        if fingerprint(self.path) != self._seen:
            raise StaleError("a file of the policies was changed meanwhile")
        target = (self.path / name if self.path.is_dir() else self.path).resolve()
        # Hidden, so that nobody takes it for a policy; of one name, so that no two are left behind.
        fresh = target.with_name(f".{target.name}.new")
        try:
            _put(fresh, target, content)
        except OSError as error:
            fresh.unlink(missing_ok=True)
            kind = ReadOnlyError if error.errno in _READ_ONLY else SourceError
            raise kind(f"{name} cannot be written: {error.strerror}") from None

    @contextmanager
    def locked(self, patience: float = _PATIENCE) -> Iterator[None]:
        """Keep all others that change policies in this way from it.

        Raises:
            BusyError: if one of them does not end in time.
        """
        folder = self.path if self.path.is_dir() else self.path.parent
        try:
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise SourceError(f"{folder} cannot be read: {error.strerror}") from None
        try:
            _lock(handle, patience)
            yield
        finally:
            os.close(handle)

    def _name(self, file: Path) -> str:
        return str(file.relative_to(self.path)) if file != self.path else file.name


@dataclass
class ConfigMapSource:
    """The files of a ConfigMap."""

    api: Kubernetes
    namespace: str
    name: str
    _read: Json = field(default_factory=dict)

    def read(self) -> Mapping[str, bytes]:
        """See ``Source``."""
        try:
            self._read = self.api.get(config_map_path(self.namespace, self.name))
        except KubernetesError as error:
            raise SourceError(str(error)) from None
        return {
            name: text.encode() for name, text in self._data().items() if name.endswith(_SUFFIXES)
        }

    def write(self, name: str, content: bytes) -> None:
        """See ``Source``: the API server refuses what is not based on its latest version."""
        changed = self._read | {"data": self._data() | {name: content.decode()}}
        try:
            self._read = self.api.replace(config_map_path(self.namespace, self.name), changed)
        except KubernetesError as error:
            if error.status == CONFLICT:
                raise StaleError("the ConfigMap was changed meanwhile") from None
            raise SourceError(str(error)) from None

    @contextmanager
    def locked(self, patience: float = _PATIENCE) -> Iterator[None]:
        """Nothing: the API server decides between two changes."""
        del patience
        yield

    def _data(self) -> dict[str, Any]:
        return dict(self._read.get("data") or {})


def _put(fresh: Path, target: Path, content: bytes) -> None:
    mode = target.stat().st_mode & 0o777 if target.exists() else 0o644
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(target)
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _lock(handle: int, patience: float) -> None:
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise BusyError("another change is being made: try again") from None
            time.sleep(0.05)
        else:
            return
