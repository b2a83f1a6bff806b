"""How nodes are, as their API server knows it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.table import Table

from lab.cluster.client import Client
from lab.mesh.processes import MeshError
from lab.nodes.launch import is_ready
from lab.nodes.model import Node
from lab.nodes.pods import pods


@dataclass(frozen=True, slots=True)
class NodeSeen:
    """A node, whether it is ready, and how many of its pods are; ``None`` if nobody can tell."""

    node: Node
    ready: bool
    pods: int | None
    pods_ready: int | None


def look_at(api: Client, nodes: Iterable[Node]) -> tuple[NodeSeen, ...]:
    """Look at the nodes of a cluster; if its API server does not answer, none is ready."""
    expected = tuple(nodes)
    try:
        known = {item["metadata"]["name"]: item for item in api.get("/api/v1/nodes")["items"]}
        running = [pod for pod in pods(api) if pod.phase in ("Pending", "Running")]
    except (OSError, MeshError):
        return tuple(NodeSeen(node, ready=False, pods=None, pods_ready=None) for node in expected)
    return tuple(
        NodeSeen(
            node=node,
            ready=is_ready(known.get(node.name)),
            pods=sum(pod.node == node.name for pod in running),
            pods_ready=sum(pod.node == node.name and pod.ready for pod in running),
        )
        for node in expected
    )


def node_json(seen: NodeSeen) -> dict[str, Any]:
    """A node for programs."""
    return {
        "name": seen.node.name,
        "cluster": seen.node.cluster,
        "address": str(seen.node.address),
        "pod_cidr": str(seen.node.pod_cidr),
        "namespace": seen.node.namespace,
        "ready": seen.ready,
        "pods": seen.pods,
        "pods_ready": seen.pods_ready,
    }


def node_table(nodes: Iterable[NodeSeen]) -> Table:
    """Nodes for people."""
    table = Table("node", "state", "address", "pods from", "pods ready", box=box.SIMPLE)
    for seen in nodes:
        state = "ready" if seen.ready else "[red]not ready[/red]"
        count = "" if seen.pods is None else f"{seen.pods_ready} of {seen.pods}"
        node = seen.node
        table.add_row(node.name, state, str(node.address), str(node.pod_cidr), count)
    return table
