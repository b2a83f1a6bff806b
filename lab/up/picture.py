"""What a lab looks like from outside: nodes, pods, whose identity each has, and for how long."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from lab.check.admin import asked
from lab.check.groups import COUNTERS, Groups, groups_in, named
from lab.check.svid import chain_of
from lab.cluster.client import Client, client
from lab.cluster.model import ControlPlane, LabError
from lab.nodes.pods import pods, process_of
from zt.inject.containers import ENVOY
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


@dataclass(frozen=True, slots=True)
class Sidecar:
    """How long the certificate of a sidecar is valid, and the groups of its handshakes."""

    left: timedelta
    groups: Groups


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


def picture(cluster: str, pods: Iterable[PodSeen], sidecars: Mapping[str, Sidecar]) -> Table:
    """Pods as a table, those of each node together; ``sidecars`` are by ``<namespace>/<pod>``."""
    table = Table("node", title=cluster, title_justify="left", box=box.SIMPLE)
    table.add_column("pod", overflow="fold")
    for name in ("address", "state", "identity", "certificate"):
        table.add_column(name)
    table.add_column("TLS groups", overflow="fold")
    before = None
    for pod in pods:
        if before not in (None, pod.node):
            table.add_section()
        before = pod.node
        state = pod.state if not pod.restarts else f"{pod.state}, restarted {pod.restarts}"
        identity = "/".join((pod.identity or "").split("/")[-2:])
        name = f"{pod.namespace}/{pod.name}"
        node = pod.node.removeprefix(f"{cluster}-")
        told = _told(sidecars.get(name))
        table.add_row(node, name, pod.address, state, identity, *told)
    return table


def _told(sidecar: Sidecar | None) -> tuple[str, str]:
    if sidecar is None:
        return "", ""
    return f"{sidecar.left.total_seconds() / 60:.0f} min", named(sidecar.groups)


def sidecars_seen(api: Client) -> Mapping[str, Sidecar]:
    """What each sidecar says of itself, by ``<namespace>/<pod>``.

    Where a sidecar can't be asked now, its pod is left out.
    """
    found = {}
    for pod in pods(api):
        with suppress(LabError, OSError, ValueError):
            container = pod.containers.get(ENVOY)
            if container is not None:
                name = f"{pod.namespace}/{pod.name}"
                found[name] = _sidecar(process_of(container), name)
    return found


def _sidecar(process: int, name: str) -> Sidecar:
    leaf = chain_of(process, name)[0]
    groups = groups_in(asked(process, name, COUNTERS).decode())
    return Sidecar(leaf.not_valid_after_utc - datetime.now(UTC), groups)


def sidecars_json(planes: Iterable[ControlPlane]) -> list[Json]:
    """The sidecars of all clusters, for programs."""
    return [
        {
            "cluster": plane.name,
            "pod": name,
            "seconds_left": round(sidecar.left.total_seconds()),
            "tls_groups": dict(sidecar.groups),
        }
        for plane in planes
        for name, sidecar in sorted(sidecars_seen(client(plane.kubeconfig)).items())
    ]


def show_pods(console: Console, planes: Iterable[ControlPlane]) -> None:
    """Print the pods of all clusters."""
    for plane in planes:
        api = client(plane.kubeconfig)
        seen = pods_seen(api, plane.name)
        console.print(picture(plane.name, seen, sidecars_seen(api)))
