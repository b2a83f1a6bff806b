"""How a lab is: whether control planes answer, nodes are ready, and what processes take."""

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
from lab.cluster.model import Cluster, ControlPlane, Layout, clusters_of
from lab.mesh.processes import Recorded, read_state
from lab.mesh.show import process_json, process_table
from lab.mesh.status import Process, look_at
from lab.nodes import status as nodes_status
from lab.nodes.model import nodes_of
from lab.nodes.status import NodeSeen, node_json, node_table

_SILENCE = 5.0


@dataclass(frozen=True, slots=True)
class Plane:
    """A control plane, whether its API server is ready, and its nodes."""

    where: ControlPlane
    ready: bool
    nodes: tuple[NodeSeen, ...] = ()


@dataclass(frozen=True, slots=True)
class Status:
    """All of it; ``ends`` says how a process ended, by its name."""

    planes: tuple[Plane, ...]
    processes: tuple[Process, ...]
    ends: dict[str, str]

    @property
    def is_well(self) -> bool:
        """Whether every process lives, every API server answers and every node is ready."""
        alive = all(process.memory is not None for process in self.processes)
        return (
            alive
            and all(plane.ready for plane in self.planes)
            and all(node.ready for plane in self.planes for node in plane.nodes)
        )


def status(folder: Path) -> Status:
    """Look at a lab.

    Raises:
        LabError: if none runs.
    """
    planes, layout = running(folder), Layout(folder.absolute())
    state = read_state(layout.run)
    assert state is not None  # noqa: S101 - it runs
    assert state.supervisor is not None  # noqa: S101
    parts = tuple(map(look_at, state.processes))
    return Status(
        planes=tuple(
            _plane(layout, where, cluster)
            for where, cluster in zip(planes, clusters_of(state.facts["clusters"]), strict=True)
        ),
        processes=(_alone(look_at(Recorded("supervisor", state.supervisor, 0)), parts), *parts),
        ends=dict(state.facts.get("dead", {})),
    )


def _plane(layout: Layout, where: ControlPlane, cluster: Cluster) -> Plane:
    api = client(where.kubeconfig, _SILENCE)
    nodes = nodes_of(layout, [cluster])
    return Plane(where, is_ready(api), nodes_status.look_at(api, nodes) if nodes else ())


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
        "clusters": [
            {
                **plane_json(plane.where),
                "ready": plane.ready,
                "nodes": list(map(node_json, plane.nodes)),
            }
            for plane in seen.planes
        ],
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
    console.print(planes)
    if nodes := [node for plane in seen.planes for node in plane.nodes]:
        console.print(node_table(nodes))
    console.print(process_table(seen.processes))
    for end in seen.ends.values():
        console.print(end, markup=False, highlight=False)
