"""A node as the machine sees it: one process in new namespaces, which others enter.

It is not in the machine's mount, PID and UTS namespaces, so what it mounts vanishes with it, and
whatever runs in it, pods included, is killed by the kernel when it dies (pid_namespaces(7)).
"""

from __future__ import annotations

import shutil
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from lab.cluster.model import LabError
from lab.cluster.network import entered as in_network
from lab.mesh.processes import Children, Program, last_lines
from lab.nodes.init import OWN, READY
from lab.nodes.model import Node

# Of containerd, kubelets and what they run: runc, iptables, mount.
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ROOT = Path(__file__).parents[2]
_UNSHARE = ("unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc")
_PATIENCE = 30.0
_PAUSE = 0.02


def start(children: Children, node: Node) -> int:
    """Start a node without its programs; returns the process by which it is entered.

    Raises:
        LabError: if it does not come up.
    """
    ready = node.folder / READY
    ready.unlink(missing_ok=True)
    children.start(_program(node))
    deadline = time.monotonic() + _PATIENCE
    while not ready.exists():
        if node.machine in children.dead():
            raise LabError(children.obituary(node.machine))
        if time.monotonic() > deadline:
            log = children.folders.log(node.machine)
            raise LabError(f"the node {node.name} does not come up{last_lines(log)}")
        time.sleep(_PAUSE)
    return children.pid(node.machine)


def entered(machine: int, command: Sequence[str]) -> tuple[str, ...]:
    """A command that runs in a node; ``machine`` is the process that ``start`` returned.

    As that process has stayed outside the PID namespace, it is named by what its children get.
    """
    namespaces = ("--mount", "--uts", "--net", f"--pid=/proc/{machine}/ns/pid_for_children")
    return ("nsenter", f"--target={machine}", *namespaces, "--", *command)


def hidden(folder: Path) -> str | None:
    """The folder of a machine below which a lab can't be, as nodes have their own in its place."""
    return next((own for own in OWN if folder.is_relative_to(own)), None)


def _program(node: Node) -> Program:
    init = (sys.executable, "-m", "lab.nodes.init", node.name, str(node.folder))
    mount = shutil.which("unshare") or _UNSHARE[0]
    return Program(
        name=node.machine,
        command=in_network(node.namespace, (mount, *_UNSHARE[1:], *init)),
        environment={"PATH": PATH, "PYTHONPATH": str(_ROOT), "LANG": "C.UTF-8"},
        stop=signal.SIGKILL,
    )
