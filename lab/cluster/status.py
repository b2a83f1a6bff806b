"""How a lab is: its control planes, whether they answer, and what their processes take."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from lab.cluster.client import client
from lab.cluster.controlplane import running
from lab.cluster.launch import is_ready
from lab.cluster.model import ControlPlane, Layout
from lab.mesh.processes import Recorded, read_state
from lab.mesh.show import process_json, process_table
from lab.mesh.status import Process, look_at

_SILENCE = 5.0


@dataclass(frozen=True, slots=True)
class Plane:
    """A control plane, and whether its API server is ready."""

    where: ControlPlane
    ready: bool


@dataclass(frozen=True, slots=True)
class Status:
    """All of it; ``ends`` says how a process ended, by its name."""

    planes: tuple[Plane, ...]
    processes: tuple[Process, ...]
    ends: dict[str, str]

    @property
    def is_well(self) -> bool:
        """Whether every process lives and every API server answers."""
        alive = all(process.memory is not None for process in self.processes)
        return alive and all(plane.ready for plane in self.planes)


def status(folder: Path) -> Status:
    """Look at a lab.

    Raises:
        LabError: if none runs.
    """
    planes = running(folder)
    state = read_state(Layout(folder.absolute()).run)
    assert state is not None  # noqa: S101 - it runs
    assert state.supervisor is not None  # noqa: S101
    parts = tuple(map(look_at, state.processes))
    return Status(
        planes=tuple(Plane(item, is_ready(client(item.kubeconfig, _SILENCE))) for item in planes),
        processes=(_alone(look_at(Recorded("supervisor", state.supervisor, 0)), parts), *parts),
        ends=dict(state.facts.get("dead", {})),
    )


def _alone(supervisor: Process, parts: tuple[Process, ...]) -> Process:
    """The supervisor without its children, which count as its own."""
    if supervisor.memory is None:
        return supervisor
    theirs = sum(part.memory or 0 for part in parts)
    return replace(supervisor, memory=max(0, supervisor.memory - theirs))


def status_json(seen: Status) -> dict[str, Any]:
    """A status for programs."""
    return {
        "well": seen.is_well,
        "clusters": [{**plane_json(plane.where), "ready": plane.ready} for plane in seen.planes],
        "processes": list(map(process_json, seen.processes)),
        "ends": seen.ends,
    }


def plane_json(plane: ControlPlane) -> dict[str, str]:
    """Where a control plane is found, for programs."""
    return {
        "name": plane.name,
        "kubeconfig": str(plane.kubeconfig),
        "kubeconfig_inside": str(plane.inside),
        "namespace": plane.namespace,
        "address": plane.address,
    }


def show_status(console: Console, seen: Status) -> None:
    """Print a status."""
    planes = Table("cluster", "API server", "network namespace", box=box.SIMPLE)
    planes.add_column("kubeconfig", overflow="fold")
    for plane in seen.planes:
        where, ready = plane.where, "ready" if plane.ready else "[red]no answer[/red]"
        planes.add_row(where.name, ready, where.namespace, str(where.kubeconfig))
    console.print(planes, process_table(seen.processes))
    for end in seen.ends.values():
        console.print(end, markup=False, highlight=False)
