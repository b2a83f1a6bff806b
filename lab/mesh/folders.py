"""The run folder of a local mesh: what lies where, and publishing into it.

Files that Envoy and the evaluator watch are published as the kubelet does it: into a new folder,
to which the link ``..data`` is then swapped, so that a reader never sees half of a change.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_DATA = "..data"
_NUMBERS = itertools.count()
# sockaddr_un holds 108 bytes with the NUL; the longest name below a sockets folder is "99999.sock".
LONGEST_SOCKET = 107
_SOCKET_NAME = 11


@dataclass(frozen=True, slots=True)
class Folders:
    """Paths of one mesh; ``root`` is absolute."""

    root: Path

    @property
    def tag(self) -> str:
        """Tells this run folder from others, for what must lie elsewhere."""
        return hashlib.sha256(os.fsencode(self.root)).hexdigest()[:12]

    @property
    def state(self) -> Path:
        """What runs, as JSON (``lab.mesh.processes``)."""
        return self.root / "state.json"

    @property
    def logs(self) -> Path:
        """One log for each process."""
        return self.root / "logs"

    @property
    def policies(self) -> Path:
        """The policies in force: a copy, in which the step of the rollout may be another."""
        return self.root / "policies"

    @property
    def locations(self) -> Path:
        """Which pod has which address, for the evaluators."""
        return self.root / "locations.json"

    @property
    def bundle(self) -> Path:
        """The trust bundle's folder."""
        return self.root / "bundle"

    @property
    def passwords(self) -> Path:
        """Passwords of the database's roles, in the format of ``.pgpass``."""
        return self.root / "pgpass"

    @property
    def sockets(self) -> Path:
        """Admin sockets: here, or below /tmp where the path would be too long for a socket."""
        here = self.root / "sockets"
        if len(os.fsencode(here)) + _SOCKET_NAME <= LONGEST_SOCKET:
            return here
        return Path("/tmp") / f"zt-mesh-{self.tag}"  # noqa: S108 - made 0700, and ours

    @property
    def lock(self) -> Path:
        """Held by the supervisor as long as it lives."""
        return self.root / "lock"

    @property
    def made(self) -> tuple[Path, ...]:
        """All that a mesh makes here and that ends with it.

        The state comes last: while it is there, whoever finds it goes on with the removal.
        """
        names = ("envoy", "evaluator", "svid", "postgres", "sockets", "state.new")
        files = (self.policies, self.locations, self.bundle, self.passwords)
        return (*files, *(self.root / name for name in names), self.state)

    def envoy(self, service: str) -> Path:
        """A sidecar's configuration, by the service's key."""
        return self.root / "envoy" / service

    def evaluator(self, cluster: str) -> Path:
        """The state of a cluster's evaluator: its spool, table and counters."""
        return self.root / "evaluator" / cluster

    def svid(self, service: str) -> Path:
        """A service's SVID, by its key."""
        return self.root / "svid" / service

    def log(self, process: str) -> Path:
        """The log of a process."""
        return self.logs / f"{process}.log"


def publish(folder: Path, files: Mapping[str, bytes]) -> None:
    """Replace all files of a watched folder at once; readable by their owner alone."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    version = folder / f"..{time.time_ns()}_{next(_NUMBERS)}"
    version.mkdir(mode=0o700)
    for name, content in files.items():
        write_private(version / name, content)
    link = folder / _DATA
    previous = link.readlink() if link.is_symlink() else None
    swap_link(link, version.name)
    for name in files:
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"{_DATA}/{name}")
    _forget(folder, {version.name, str(previous)})


def published(folder: Path) -> Path:
    """The folder that holds the present version: files opened below it belong together.

    Raises:
        FileNotFoundError: if nothing was published.
    """
    return (folder / _DATA).resolve(strict=True)


def swap_link(link: Path, target: str) -> None:
    """Point a link elsewhere in one step."""
    fresh = link.with_name(f"{link.name}_tmp")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    fresh.rename(link)


def write_private(path: Path, content: bytes) -> None:
    """Write a file that nobody else can read, not even for a moment."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)


def _forget(folder: Path, keep: set[str]) -> None:
    """Remove older versions; the last but one stays for whoever is reading it."""
    for version in folder.glob("..[0-9]*"):
        if version.name not in keep:
            shutil.rmtree(version, ignore_errors=True)
