"""What a lab is made of: its folder, its clusters, and where their API servers are found."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from lab.mesh.folders import Folders
from lab.mesh.processes import MeshError

# The "Internet" between the clusters (RFC 5737); it exists in the lab's namespaces alone.
INTERNET = IPv4Network("192.0.2.0/24")
API_PORT = 6443
_STEP = 10
# Interfaces and names of namespaces are short (IFNAMSIZ, 16 bytes with the NUL).
_TAG = 6


class LabError(MeshError):
    """The lab can't do what was asked; the message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """A running control plane.

    Attributes:
        name: The cluster's.
        kubeconfig: Of an administrator, for processes in the root network namespace.
        inside: The same for processes in the lab's namespaces.
        namespace: Name of the network namespace, ``/run/netns/NAME``.
        address: Of the API server inside the lab's namespaces.
    """

    name: str
    kubeconfig: Path
    inside: Path
    namespace: str
    address: str


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster to start; ``number`` counts from 1 and gives it its address.

    ``services`` and ``pods`` are what it takes addresses from, ``nodes`` is how many it has.
    """

    name: str
    number: int
    services: IPv4Network
    pods: IPv4Network
    nodes: int = 0

    @property
    def address(self) -> IPv4Address:
        """Its address on the Internet, where its API server listens."""
        return INTERNET[_STEP * self.number]

    @property
    def kubernetes(self) -> IPv4Address:
        """The ClusterIP of the service ``kubernetes``: the first of them."""
        return self.services[1]

    @property
    def dns(self) -> IPv4Address:
        """The ClusterIP of the cluster's DNS."""
        return self.services[10]


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths of one lab; ``root`` is absolute."""

    root: Path

    @property
    def run(self) -> Folders:
        """Where the record of what runs, the lock and the logs lie."""
        return Folders(self.root)

    @property
    def internet(self) -> str:
        """The network namespace of the bridge between the clusters."""
        return f"{self.prefix}internet"

    @property
    def prefix(self) -> str:
        """What the names of this lab's network namespaces begin with, and no other's."""
        return f"zt-{self.run.tag[:_TAG]}-"

    @property
    def policies(self) -> Path:
        """The policies that are in force in the lab."""
        return self.root / "policies"

    @property
    def engine(self) -> Path:
        """What Pulumi's engine keeps: state, passphrase, the stacks' configuration."""
        return self.root / "engine"

    @property
    def kms(self) -> Path:
        """All of the KMS."""
        return self.root / "kms"

    @property
    def pod_logs(self) -> Path:
        """What containers wrote, also those that are gone: by node, pod and container."""
        return self.run.logs / "pods"

    @property
    def failures(self) -> Path:
        """Where what is known of a failure is gathered; it outlives the lab."""
        return self.root / "failures"

    def namespace(self, cluster: str) -> str:
        """The network namespace of a cluster."""
        return f"{self.prefix}{cluster}"

    def cluster(self, cluster: str) -> Path:
        """All that belongs to a cluster."""
        return self.root / cluster

    def kubeconfig(self, cluster: str) -> Path:
        """The administrator's kubeconfig for the root network namespace."""
        return self.cluster(cluster) / "kubeconfig"

    def inside(self, cluster: str) -> Path:
        """The administrator's kubeconfig for the lab's namespaces."""
        return self.cluster(cluster) / "kubeconfig.inside"

    def keys(self, cluster: str) -> Path:
        """Keys and certificates of a control plane."""
        return self.cluster(cluster) / "pki"

    def control_plane(self, cluster: Cluster) -> ControlPlane:
        """Where a control plane is found."""
        return ControlPlane(
            name=cluster.name,
            kubeconfig=self.kubeconfig(cluster.name),
            inside=self.inside(cluster.name),
            namespace=self.namespace(cluster.name),
            address=str(cluster.address),
        )


def plain(clusters: tuple[Cluster, ...]) -> list[dict[str, Any]]:
    """Clusters as JSON."""
    return [
        {
            "name": item.name,
            "services": str(item.services),
            "pods": str(item.pods),
            "nodes": item.nodes,
        }
        for item in clusters
    ]


def clusters_of(document: list[dict[str, Any]]) -> tuple[Cluster, ...]:
    """Clusters from what ``plain`` made of them."""
    return tuple(
        Cluster(
            item["name"],
            number,
            IPv4Network(item["services"]),
            IPv4Network(item["pods"]),
            item["nodes"],
        )
        for number, item in enumerate(document, start=1)
    )
