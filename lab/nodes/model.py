"""What a node is: its name, its addresses, and where everything of it lies."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from lab.cluster.model import Cluster, Layout

# Behind each cluster's router there is one such network (RFC 5737), unknown to the other clusters.
LAN = IPv4Network("198.51.100.0/24")
ROUTER = LAN[1]
# So that no two nodes of a lab share an address.
_STEP = 10
_POD_BITS = 24


@dataclass(frozen=True, slots=True)
class Node:
    """A node.

    Attributes:
        name: As Kubernetes knows it.
        cluster: The cluster's name.
        number: Counts the nodes of a cluster from 1.
        address: In the network behind the cluster's router.
        pod_cidr: Where its pods' addresses are from.
        namespace: Name of the network namespace, ``/run/netns/NAME``.
        folder: All its files; what containers see below /run, /var/lib and /var/log is in it.
        cgroup: Path of its control group, the same in every hierarchy; all its pods are below.
    """

    name: str
    cluster: str
    number: int
    address: IPv4Address
    pod_cidr: IPv4Network
    namespace: str
    folder: Path
    cgroup: str

    @property
    def containerd(self) -> Path:
        """The socket of containerd, for processes outside; in the node it is ``/run/...``."""
        return self.folder / "run/containerd/containerd.sock"

    @property
    def images(self) -> Path:
        """The root folder of containerd, for processes outside."""
        return self.folder / "var/lib/containerd"

    @property
    def keys(self) -> Path:
        """Certificates, keys and kubeconfigs."""
        return self.folder / "pki"

    @property
    def machine(self) -> str:
        """The name of the process whose end ends the node, in records and logs."""
        return f"node.{self.name}"


def nodes_of(layout: Layout, clusters: Iterable[Cluster]) -> tuple[Node, ...]:
    """The nodes of clusters, in order."""
    return tuple(
        _node(layout, cluster, number)
        for cluster in clusters
        for number in range(1, cluster.nodes + 1)
    )


def _node(layout: Layout, cluster: Cluster, number: int) -> Node:
    name = f"{cluster.name}-{number}"
    pods = list(cluster.pods.subnets(new_prefix=_POD_BITS))
    return Node(
        name=name,
        cluster=cluster.name,
        number=number,
        address=LAN[_STEP * cluster.number + number],
        pod_cidr=pods[number],
        namespace=layout.namespace(name),
        folder=layout.cluster(cluster.name) / "nodes" / str(number),
        cgroup=f"/{layout.prefix}{name}",
    )
