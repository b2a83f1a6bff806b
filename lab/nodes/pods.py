"""The pods of a cluster, and the way into their containers for processes of the machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.cluster.client import Client
from lab.cluster.model import LabError
from lab.mesh.processes import identify
from lab.nodes.cgroups import hierarchies

_PODS = "/api/v1/pods"
# Below a node's group there are one for each class of pods, one for each pod of it, and in that one
# for each container. Pods of the best class are not below a class.
_PLACES = ("*/kubepods/pod*/{}", "*/kubepods/*/pod*/{}")


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod as the API knows it.

    Attributes:
        address: ``None`` as long as it has none.
        node: ``None`` as long as it is not scheduled.
        containers: IDs of those that have been started, by name; sidecars and other init
            containers as well.
        ready: Whether all its containers are.
    """

    namespace: str
    name: str
    uid: str
    address: str | None
    node: str | None
    account: str
    phase: str
    ready: bool
    labels: Mapping[str, str]
    containers: Mapping[str, str]


def pods(api: Client, namespace: str | None = None) -> tuple[Pod, ...]:
    """The pods of a cluster, or of a namespace.

    Raises:
        LabError: if the API refuses.
        OSError: if it does not answer.
    """
    path = _PODS if namespace is None else f"/api/v1/namespaces/{namespace}/pods"
    return tuple(map(pod, api.get(path)["items"]))


def pod(manifest: Any) -> Pod:  # noqa: ANN401 - an object of the API
    """A pod from its object in the API."""
    metadata, spec, status = manifest["metadata"], manifest["spec"], manifest.get("status", {})
    conditions = status.get("conditions", ())
    return Pod(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        address=status.get("podIP"),
        node=spec.get("nodeName"),
        account=spec.get("serviceAccountName", "default"),
        phase=status.get("phase", "Unknown"),
        ready=any((item["type"], item["status"]) == ("Ready", "True") for item in conditions),
        labels=metadata.get("labels", {}),
        containers=dict(_containers(status)),
    )


def process_of(container: str) -> int:
    """The first process of a container that runs on this machine; ``container`` is its ID.

    Raises:
        LabError: if none runs.
    """
    started = {pid: identity.started for pid in _members(container) if (identity := identify(pid))}
    if not started:
        raise LabError(f"nothing runs in the container {container}")
    return min(started, key=lambda pid: (started[pid], pid))


def entered(process: int, command: Sequence[str], user: int = 0) -> tuple[str, ...]:
    """A command that runs in a container, by one of its processes; ``user`` is a UID and a GID.

    It has the container's files, network and processes, but not its limits, nor, as user 0, the
    bounds of its capabilities.
    """
    namespaces = ("--mount", "--uts", "--ipc", "--net", "--pid")
    who = (f"--setuid={user}", f"--setgid={user}")
    return ("nsenter", f"--target={process}", *namespaces, *who, "--", *command)


def _containers(status: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for kind in ("initContainerStatuses", "containerStatuses"):
        for item in status.get(kind, ()):
            if "containerID" in item:
                # As in containerd://ID.
                yield item["name"], item["containerID"].rpartition("/")[2]


def _members(container: str) -> Iterator[int]:
    """Processes of a container: of the first hierarchy of control groups that knows it."""
    for hierarchy in hierarchies():
        for place in _PLACES:
            for group in hierarchy.glob(place.format(container)):
                yield from _listed(group / "cgroup.procs")
                return


def _listed(file: Path) -> Iterator[int]:
    with suppress(OSError):  # it has just ended
        yield from map(int, file.read_text(encoding="ascii").split())
