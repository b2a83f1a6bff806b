"""Two nodes with pods behind them, and somebody outside: network namespaces, and nothing else.

Sockets are opened here for any of them: a socket stays in the namespace in which it was made.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from lab.cluster.network import entered
from tests.enforcer.scenes import OUTSIDE, PODS, address

_T = TypeVar("_T")
_LIBC = ctypes.CDLL(None, use_errno=True)

# Addresses of pods by the number of their node.
NODES = {1: "10.9.0.0/24", 2: "10.9.1.0/24"}
# On the first node, and no pod of any scene.
STRANGER = "10.9.0.200"
# On the second node.
FAR, NEAR_FAR = "10.9.1.10", "10.9.1.11"
NODE_PODS = {1: (*map(address, PODS), STRANGER), 2: (FAR, NEAR_FAR)}


def run(*command: str, text: str = "") -> str:
    done = subprocess.run(
        command, input=text, capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def node_address(number: int) -> str:
    return f"198.51.100.{number}"


@dataclass(frozen=True)
class Site:
    """Names of namespaces by the address that lives there; of nodes by their number."""

    prefix: str
    at: dict[str, str] = field(default_factory=dict)

    def node(self, number: int) -> str:
        return self.at[node_address(number)]

    def inside(self, where: str, do: Callable[[], _T]) -> _T:
        """Do something in the namespace of an address, on a thread of its own."""
        handle = os.open(f"/run/netns/{self.at[where]}", os.O_RDONLY)

        def entering() -> _T:
            if _LIBC.setns(handle, 0):
                raise OSError(ctypes.get_errno(), "setns")
            return do()

        try:
            with ThreadPoolExecutor(1) as pool:
                return pool.submit(entering).result()
        finally:
            os.close(handle)

    def enforce(self, text: str, number: int = 1) -> None:
        run(*entered(self.node(number), ("nft", "-f", "-")), text=text)

    def nft(self, number: int, *words: str) -> str:
        return run(*entered(self.node(number), ("nft", *words)))


@contextmanager
def site() -> Iterator[Site]:
    """Nodes on a bridge; each routes to the other's pods, and nobody translates addresses."""
    built = Site(f"zt-{uuid.uuid4().hex[:6]}-")
    try:
        _build(built)
        yield built
    finally:
        for name in dict.fromkeys((f"{built.prefix}lan", *built.at.values())):
            run("ip", "netns", "delete", name)


def _build(built: Site) -> None:
    lan = f"{built.prefix}lan"
    _add(lan)
    _bridge(lan, "lan", None)
    for number in NODES:
        _host(built, lan, node_address(number), f"node{number}")
        _settle(built, number)
    _host(built, lan, OUTSIDE, "outside")
    for number, network in NODES.items():
        _route(built, OUTSIDE, network, number)
        for other in NODES.keys() - {number}:
            _route(built, node_address(other), network, number)


def _host(built: Site, lan: str, where: str, name: str) -> None:
    """Somebody on the bridge between nodes."""
    built.at[where] = f"{built.prefix}{name}"
    _add(built.at[where])
    _join(lan, "lan", built.at[where], name)
    run("ip", "-n", built.at[where], "address", "add", f"{where}/24", "dev", "eth0")


def _settle(built: Site, number: int) -> None:
    """Pods on the bridge of a node, which is their router."""
    node, network = built.node(number), NODES[number]
    gateway = network.replace(".0/24", ".1")
    built.at[gateway] = node
    _bridge(node, "cni0", f"{gateway}/24")
    forwarding = "echo 1 > /proc/sys/net/ipv4/ip_forward"
    run(*entered(node, ("sh", "-c", forwarding)))
    for pod in NODE_PODS[number]:
        built.at[pod] = f"{built.prefix}{pod}"
        _add(built.at[pod])
        _join(node, "cni0", built.at[pod], f"p{pod.rpartition('.')[2]}")
        run("ip", "-n", built.at[pod], "address", "add", f"{pod}/24", "dev", "eth0")
        run("ip", "-n", built.at[pod], "route", "add", "default", "via", gateway)


def _add(name: str) -> None:
    run("ip", "netns", "add", name)
    run("ip", "-n", name, "link", "set", "lo", "up")


def _bridge(where: str, name: str, own: str | None) -> None:
    run("ip", "-n", where, "link", "add", name, "type", "bridge")
    if own:
        run("ip", "-n", where, "address", "add", own, "dev", name)
    run("ip", "-n", where, "link", "set", name, "up")


def _join(where: str, bridge: str, name: str, leg: str) -> None:
    ends = ("type", "veth", "peer", "name", "eth0", "netns", name)
    run("ip", "-n", where, "link", "add", leg, *ends)
    run("ip", "-n", where, "link", "set", leg, "master", bridge, "up")
    run("ip", "-n", name, "link", "set", "eth0", "up")
    # A Service may lead a pod back to itself, over the leg that it came by.
    run("ip", "-n", where, "link", "set", leg, "type", "bridge_slave", "hairpin", "on")


def _route(built: Site, where: str, network: str, number: int) -> None:
    run("ip", "-n", built.at[where], "route", "add", network, "via", node_address(number))
