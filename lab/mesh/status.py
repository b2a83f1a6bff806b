"""How a mesh is: its processes, its certificates, and how many decisions it makes."""

from __future__ import annotations

import os
import re
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from lab.check.admin import told
from lab.check.groups import COUNTERS, Groups, groups_in
from lab.mesh.addresses import key
from lab.mesh.authority import SVID
from lab.mesh.folders import Folders, published
from lab.mesh.model import Mesh
from lab.mesh.processes import Identity, MeshError, Recorded, State, is_alive
from zt.model import Service

_SAMPLE = 1.0
_DECISIONS = re.compile(rb"^zt_evaluation_duration_seconds_count (\S+)$", re.MULTILINE)
_PSS = re.compile(rb"^Pss: +(\d+) kB$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Process:
    """A process: resident memory in MiB and uptime in seconds, ``None`` where it is dead."""

    name: str
    pid: int
    memory: int | None
    uptime: float | None


@dataclass(frozen=True, slots=True)
class Sidecar:
    """A service's sidecar: the seconds that its SVID has left, and the groups of its handshakes."""

    service: str
    left: float
    groups: Groups


@dataclass(frozen=True, slots=True)
class Status:
    """All of it; ``decisions`` are those a second, over all evaluators that answer."""

    processes: tuple[Process, ...]
    sidecars: tuple[Sidecar, ...]
    decisions: float

    @property
    def is_well(self) -> bool:
        """Whether every process lives."""
        return all(process.memory is not None for process in self.processes)


def status(state: State, mesh: Mesh) -> Status:
    """Look at a mesh for a second."""
    own = [Recorded("supervisor", state.supervisor, 0)] if state.supervisor else []
    return Status(
        processes=tuple(look_at(item) for item in (*own, *state.processes)),
        sidecars=tuple(_sidecar(mesh, service) for service in mesh.services),
        decisions=_decisions(state.facts.get("apis", ())),
    )


def look_at(item: Recorded) -> Process:
    """What a process takes, if it lives."""
    name, identity = item.name, item.identity
    if not is_alive(identity):
        return Process(name, identity.pid, None, None)
    return Process(name, identity.pid, _memory(identity), _uptime(identity))


def _memory(identity: Identity) -> int | None:
    """MiB of a process and its children; what they share counts once."""
    try:
        return sum(map(_proportional, _with_children(identity.pid))) // 1024
    except OSError:
        return None


def _with_children(pid: int) -> Iterator[int]:
    yield pid
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in file.read_text(encoding="ascii").split():
            yield from _with_children(int(child))


def _proportional(pid: int) -> int:
    """KiB of a process: of a page that several share, its part."""
    found = _PSS.search(Path(f"/proc/{pid}/smaps_rollup").read_bytes())
    return int(found[1]) if found else 0


def _uptime(identity: Identity) -> float:
    since_boot = float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])
    return since_boot - identity.started / os.sysconf("SC_CLK_TCK")


def _sidecar(mesh: Mesh, service: Service) -> Sidecar:
    name = key(service)
    return Sidecar(name, _left(mesh.folders, name), _groups(mesh, service))


def _groups(mesh: Mesh, service: Service) -> Groups:
    """None where the sidecar does not answer: that it is dead is said elsewhere."""
    try:
        stats = told(str(mesh.placement.admin_socket(service)), key(service), COUNTERS)
    except (MeshError, OSError):
        return {}
    return groups_in(stats.decode())


def _left(folders: Folders, service: str) -> float:
    pem = (published(folders.svid(service)) / SVID).read_bytes()
    end = x509.load_pem_x509_certificate(pem).not_valid_after_utc
    # Looking at processes takes a while, in which certificates are renewed.
    return (end - datetime.now(UTC)).total_seconds()


def _decisions(apis: list[str] | tuple[str, ...]) -> float:
    """Decisions a second, from the evaluators' own counters."""
    before, started = sum(map(_count, apis)), time.monotonic()
    time.sleep(_SAMPLE)
    return max(0.0, (sum(map(_count, apis)) - before) / (time.monotonic() - started))


def _count(api: str) -> float:
    try:
        with urllib.request.urlopen(f"{api}metrics", timeout=2) as answer:  # noqa: S310 - http, ours
            found = _DECISIONS.search(answer.read())
    except OSError:
        return 0.0
    return float(found[1]) if found else 0.0
