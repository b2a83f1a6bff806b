"""Network namespaces of a lab: one for each cluster, and one for the bridge that joins them.

Nothing is added to the machine's own namespace, so several labs run side by side, and what is left
of one is found by its name.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from lab.cluster.model import INTERNET, Cluster, LabError, Layout

BRIDGE = "internet"
# Where ip-netns(8) keeps names.
NAMESPACES = Path("/run/netns")


def create(layout: Layout, clusters: Iterable[Cluster]) -> None:
    """Make the namespaces, the bridge, and a leg of each cluster on it.

    Raises:
        LabError: if the kernel refuses.
    """
    internet = layout.internet
    add(internet)
    ip("-n", internet, "link", "add", BRIDGE, "type", "bridge")
    ip("-n", internet, "address", "add", f"{INTERNET[1]}/{INTERNET.prefixlen}", "dev", BRIDGE)
    ip("-n", internet, "link", "set", BRIDGE, "up")
    for cluster in clusters:
        namespace, leg = layout.namespace(cluster.name), f"cluster{cluster.number}"
        add(namespace)
        ends = ("link", "add", leg, "type", "veth", "peer", "name", "eth0", "netns", namespace)
        ip("-n", internet, *ends)
        ip("-n", internet, "link", "set", leg, "master", BRIDGE, "up")
        address = f"{cluster.address}/{INTERNET.prefixlen}"
        ip("-n", namespace, "address", "add", address, "dev", "eth0")
        ip("-n", namespace, "link", "set", "eth0", "up")


def remove(layout: Layout) -> None:
    """Remove every namespace of this lab; what runs in one must have been ended before."""
    for name in existing(layout):
        ip("netns", "delete", name)


def existing(layout: Layout) -> tuple[str, ...]:
    """The namespaces that this lab has, or has left behind."""
    return tuple(sorted(path.name for path in NAMESPACES.glob(f"{layout.prefix}*")))


def processes(layout: Layout) -> tuple[int, ...]:
    """IDs of what runs in this lab's namespaces, recorded or not."""
    lists = (ip("netns", "pids", name) for name in existing(layout))
    return tuple(int(pid) for listed in lists for pid in listed.split())


def entered(namespace: str | Path, command: Iterable[str]) -> tuple[str, ...]:
    """A command that runs in a namespace, given by its name or as a file.

    Unlike ``ip netns exec`` this leaves /sys as it is.
    """
    return ("nsenter", f"--net={NAMESPACES / namespace}", "--", *command)


def add(namespace: str) -> None:
    """Make a namespace with its loopback interface.

    Raises:
        LabError: if the kernel refuses.
    """
    ip("netns", "add", namespace)
    ip("-n", namespace, "link", "set", "lo", "up")


def ip(*arguments: str) -> str:
    """Run the command; returns what it prints.

    Raises:
        LabError: if it fails.
    """
    return run(("ip", *arguments))


def run(command: Sequence[str]) -> str:
    """Run a command; returns what it prints.

    Raises:
        LabError: if it fails.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode != 0:
        raise LabError(f"`{' '.join(command)}` failed: {done.stderr.strip()}")
    return done.stdout
