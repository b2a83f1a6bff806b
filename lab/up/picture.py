"""What a lab looks like from outside: nodes, pods, whose identity each has, and for how long."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table

from lab.cluster.client import Client, client
from lab.cluster.model import ControlPlane
from zt.wellknown import IDENTITY

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class PodSeen:
    """A pod. ``identity`` is the service it has a sidecar of; ``None`` without a sidecar."""

    cluster: str
    node: str
    namespace: str
    name: str
    address: str
    state: str
    restarts: int
    identity: str | None


def pods_seen(api: Client, cluster: str) -> tuple[PodSeen, ...]:
    """All pods of a cluster, by node, namespace and name."""
    found = [_seen(cluster, item) for item in api.get("/api/v1/pods")["items"]]
    return tuple(sorted(found, key=lambda pod: (pod.node, pod.namespace, pod.name)))


def _seen(cluster: str, item: Json) -> PodSeen:
    metadata, spec, status = item["metadata"], item["spec"], item.get("status", {})
    statuses = [*_statuses(status)]
    return PodSeen(
        cluster=cluster,
        node=spec.get("nodeName", ""),
        namespace=metadata["namespace"],
        name=metadata["name"],
        address=status.get("podIP", ""),
        state=_state(status),
        restarts=sum(entry.get("restartCount", 0) for entry in statuses),
        identity=(metadata.get("annotations") or {}).get(IDENTITY),
    )


def _statuses(status: Json) -> Iterator[Json]:
    for kind in ("initContainerStatuses", "containerStatuses"):
        yield from status.get(kind) or ()


def _state(status: Json) -> str:
    conditions = {item["type"]: item["status"] for item in status.get("conditions") or ()}
    if status.get("phase") == "Running":
        return "ready" if conditions.get("Ready") == "True" else "not ready"
    return str(status.get("phase", "unknown")).lower()


def picture(pods: tuple[PodSeen, ...]) -> RenderableType:
    """Pods as a table, those of each node together."""
    table = Table("cluster", "node", "pod", "address", "state", "identity", box=box.SIMPLE)
    before = None
    for pod in pods:
        if before not in (None, pod.node):
            table.add_section()
        before = pod.node
        state = pod.state if not pod.restarts else f"{pod.state} ({pod.restarts} restarts)"
        name = f"{pod.namespace}/{pod.name}"
        table.add_row(pod.cluster, pod.node, name, pod.address, state, pod.identity or "")
    return table


def show_pods(console: Console, planes: Iterable[ControlPlane]) -> None:
    """Print the pods of all clusters."""
    for plane in planes:
        console.print(picture(pods_seen(client(plane.kubeconfig), plane.name)))
