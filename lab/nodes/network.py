"""The network of the nodes: behind each cluster's router a LAN, and on it a namespace a node.

The cluster's own namespace is the router: nodes reach the API server there, and the Internet side
through it, under its address. Pods have addresses of their node's bridge; every node, and the
router, knows the way to every other's. Only what leaves the cluster takes the node's address.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Sequence

from lab.cluster.model import Cluster, LabError, Layout
from lab.cluster.network import add, entered, ip
from lab.nodes.model import LAN, ROUTER, Node

BRIDGE = "lan"
PORT = "eth0"
_TABLE = "zt_node"
_FORWARDING = "/proc/sys/net/ipv4/ip_forward"


def create(layout: Layout, cluster: Cluster, nodes: Sequence[Node]) -> None:
    """Make the LAN of a cluster, and the namespaces of its nodes on it.

    Raises:
        LabError: if the kernel refuses.
    """
    router = layout.namespace(cluster.name)
    ip("-n", router, "link", "add", BRIDGE, "type", "bridge")
    ip("-n", router, "address", "add", f"{ROUTER}/{LAN.prefixlen}", "dev", BRIDGE)
    ip("-n", router, "link", "set", BRIDGE, "up")
    _forward(router)
    _translate(router, f"ip saddr {LAN} oifname {PORT} masquerade")
    for node in nodes:
        _connect(router, node)
        _translate(node.namespace, _outside(cluster, node))
        # The API server calls webhooks under the address that it is known by.
        _lead(router, [node], "src", str(cluster.address))
    for node in nodes:
        _lead(node.namespace, [other for other in nodes if other != node])


def _connect(router: str, node: Node) -> None:
    """Make a node's namespace, with a leg on the LAN."""
    namespace, leg = node.namespace, f"node{node.number}"
    add(namespace)
    ends = ("link", "add", leg, "type", "veth", "peer", "name", PORT, "netns", namespace)
    ip("-n", router, *ends)
    ip("-n", router, "link", "set", leg, "master", BRIDGE, "up")
    ip("-n", namespace, "address", "add", f"{node.address}/{LAN.prefixlen}", "dev", PORT)
    ip("-n", namespace, "link", "set", PORT, "up")
    ip("-n", namespace, "route", "add", "default", "via", str(ROUTER))
    _forward(namespace)


def _outside(cluster: Cluster, node: Node) -> str:
    """What a node's pods send out of the cluster bears the node's address."""
    inside = ", ".join(map(str, (cluster.pods, cluster.services, LAN)))
    return f"ip saddr {node.pod_cidr} ip daddr != {{ {inside} }} oifname {PORT} masquerade"


def _lead(namespace: str, nodes: Iterable[Node], *more: str) -> None:
    """Routes to the pods of nodes."""
    for node in nodes:
        way = (str(node.pod_cidr), "via", str(node.address))
        ip("-n", namespace, "route", "add", *way, *more)


def _forward(namespace: str) -> None:
    _run(namespace, ("sh", "-c", f"echo 1 > {_FORWARDING}"))


def _translate(namespace: str, rule: str) -> None:
    commands = (
        f"add table ip {_TABLE}",
        f"add chain ip {_TABLE} out {{ type nat hook postrouting priority srcnat; }}",
        f"add rule ip {_TABLE} out {rule}",
    )
    _run(namespace, ("nft", "; ".join(commands)))


def _run(namespace: str, command: Sequence[str]) -> None:
    done = subprocess.run(  # noqa: S603 - ours
        entered(namespace, command), capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise LabError(f"`{' '.join(command)}` failed in {namespace}: {done.stderr.strip()}")
