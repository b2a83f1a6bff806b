"""Brings nodes up, and up again."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lab.cluster.certificates import Pair
from lab.cluster.client import Client
from lab.cluster.model import Cluster, LabError
from lab.cluster.waiting import Speak, wait
from lab.images import stock
from lab.mesh.processes import Children, last_lines
from lab.nodes import access, cgroups, files, machine, volumes
from lab.nodes.model import Node
from lab.nodes.programs import CONTAINERD, named, programs

_PATIENCE = 30.0
_PAUSE = 0.02


def prepare(node: Node, cluster: Cluster, authority: Pair) -> None:
    """Write a node's files, images among them.

    Raises:
        LabError: if the folder is hidden from the node.
    """
    own = machine.hidden(node.folder)
    if own is not None:
        raise LabError(f"nodes have a {own} of their own: choose a folder that is not in it")
    files.write(node, cluster, authority)
    stock.lay(node.images)


def furnish(api: Client, nodes: tuple[Node, ...]) -> None:
    """Make what nodes of a cluster need of its API.

    Raises:
        LabError: if the API refuses.
    """
    access.grant(api)
    for node in nodes:
        volumes.provide(api, node)


def start(children: Children, node: Node, cluster: Cluster) -> None:
    """Start a node with all its programs.

    Raises:
        LabError: if it does not come up.
    """
    cgroups.renew(node)
    entrance = machine.start(children, node)
    for program in programs(node, cluster, entrance):
        children.start(program)
        if program.name == named(CONTAINERD, node):
            _await_containerd(children, node)


def _await_containerd(children: Children, node: Node) -> None:
    """A kubelet that starts before it answers gives up."""
    name, deadline = named(CONTAINERD, node), time.monotonic() + _PATIENCE
    while not _listens(node.containerd):
        if name in children.dead():
            raise LabError(children.obituary(name))
        if time.monotonic() > deadline:
            raise LabError(f"{name} does not answer{last_lines(children.folders.log(name))}")
        time.sleep(_PAUSE)


def _listens(path: Path) -> bool:
    """Whether somebody listens at a socket, whose path may be longer than an address."""
    try:
        folder = os.open(path.parent, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(f"/proc/self/fd/{folder}/{path.name}")
    except OSError:
        return False
    finally:
        os.close(folder)
    return True


def revive(children: Children, node: Node, cluster: Cluster) -> bool:
    """Start a node again whose machine is dead, with the files that it had; else do nothing.

    Raises:
        LabError: if it does not come up.
    """
    if node.machine not in children.dead():
        return False
    # The kernel has killed what ran there; whoever entered it for us is told soon.
    theirs = {name for name in children.programs if name.endswith(f".{node.name}")}
    deadline = time.monotonic() + _PATIENCE
    while not theirs <= set(children.dead()) and time.monotonic() < deadline:
        time.sleep(_PAUSE)
    start(children, node, cluster)
    return True


def await_ready(say: Speak, children: Children, api: Client, nodes: tuple[Node, ...]) -> None:
    """Wait until Kubernetes says that nodes are ready.

    Raises:
        LabError: if they don't become so.
    """
    for node in nodes:
        wait(say, children, f"the node {node.name}", _ready(api, node))
        say("step", f"the node {node.name} is ready")


def _ready(api: Client, node: Node) -> Callable[[], bool]:
    def ask() -> bool:
        try:
            return is_ready(api.get(f"/api/v1/nodes/{node.name}"))
        except OSError:
            return False

    return ask


def is_ready(node: Any) -> bool:  # noqa: ANN401 - an object of the API
    """Whether the API says so of a node; ``None`` is one that it does not know."""
    conditions = node["status"].get("conditions", ()) if node else ()
    return any((item["type"], item["status"]) == ("Ready", "True") for item in conditions)
