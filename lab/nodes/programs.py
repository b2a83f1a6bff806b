"""The programs of a node, each for the namespaces of its machine."""

from __future__ import annotations

import shutil
import signal
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from lab.cluster.model import Cluster
from lab.mesh.processes import Program
from lab.nodes import files
from lab.nodes.machine import PATH, entered
from lab.nodes.model import Node
from lab.tools.build import tool

CONTAINERD, KUBELET, PROXY, ENFORCER = "containerd", "kubelet", "kube-proxy", "enforcer"
BUILT = (KUBELET, PROXY)
# What else a node needs, and the package of Debian that has it.
_COMMANDS = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "nft": "nftables",
    "unshare": "util-linux",
    "mount": "mount",
}
# A kubelet gives up on a containerd that listens but is not ready yet. Whoever manages a machine's
# services starts it again.
_AGAIN = 'for _ in 1 2 3 4 5 6 7 8 9; do "$@" && exit; sleep 1; done; exit 1'
_ROOT = Path(__file__).parents[2]


def missing() -> tuple[str, ...]:
    """What this machine lacks for nodes, in words."""
    lacks = [f"`{name}` ({package})" for name, package in _COMMANDS.items() if not _has(name)]
    if not any((folder / "bridge").exists() for folder in files.PLUGIN_FOLDERS):
        lacks.append("CNI plugins (containernetworking-plugins)")
    return tuple(lacks)


def named(program: str, node: Node) -> str:
    """What a process of a node is called in records and logs."""
    return f"{program}.{node.name}"


def programs(node: Node, cluster: Cluster, machine: int) -> tuple[Program, ...]:
    """All of them in the order of their start; ``machine`` is the process of the node."""
    made = (
        (ENFORCER, _enforcer(node, cluster)),
        (CONTAINERD, _containerd(node)),
        (KUBELET, _kubelet(node)),
        (PROXY, _proxy(node)),
    )
    return tuple(_program(node, machine, name, command) for name, command in made)


def _containerd(node: Node) -> tuple[str, ...]:
    return (_path(CONTAINERD), f"--config={node.folder / 'containerd.toml'}", "--log-level=warn")


def _kubelet(node: Node) -> tuple[str, ...]:
    options = {
        "config": str(node.folder / "kubelet.yaml"),
        "kubeconfig": str(files.kubeconfig_of(node, files.KUBELET)),
        "hostname-override": node.name,
        "node-ip": str(node.address),
    }
    return ("sh", "-c", _AGAIN, KUBELET, str(tool(KUBELET)), *_options(options))


def _proxy(node: Node) -> tuple[str, ...]:
    return (str(tool(PROXY)), f"--config={node.folder / 'kube-proxy.yaml'}")


def _enforcer(node: Node, cluster: Cluster) -> tuple[str, ...]:
    kubeconfig = files.kubeconfig_of(node, files.ENFORCER)
    options = {"kubeconfig": str(kubeconfig), "pods": str(cluster.pods)}
    return (sys.executable, "-m", "lab.enforcer", *_options(options))


def _program(node: Node, machine: int, name: str, command: tuple[str, ...]) -> Program:
    environment: Mapping[str, str] = {"PATH": PATH, "PYTHONPATH": str(_ROOT), "LANG": "C.UTF-8"}
    return Program(
        name=named(name, node),
        command=entered(machine, command),
        environment=environment,
        # It ends with its node, which has nothing to lose.
        stop=signal.SIGKILL,
    )


def _options(options: Mapping[str, str]) -> Iterable[str]:
    return (f"--{name}={value}" for name, value in options.items())


def _has(command: str) -> bool:
    return shutil.which(command, path=PATH) is not None


def _path(command: str) -> str:
    return shutil.which(command, path=PATH) or command
