"""Control planes for whoever needs a real API server: up, running, down."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from ipaddress import IPv4Network
from itertools import chain, repeat
from pathlib import Path
from typing import IO

from lab.cluster import cleanup, programs
from lab.cluster.model import (
    Cluster,
    ControlPlane,
    LabError,
    Layout,
    clusters_of,
    plain,
)
from lab.kms import server as kms_server
from lab.mesh.processes import Identity, identify, is_alive, last_lines, read_state
from lab.nodes import programs as node_programs
from lab.tools.build import ToolError, obtainable, tool
from zt import model

Report = Callable[[str], None]

_ROOT = Path(__file__).parents[2]
# Pods of one service on several nodes are wanted once.
_FIRST_NODES, _OTHER_NODES = 2, 1
_COMMANDS = {"ip": "iproute2", "nsenter": "util-linux"}


def missing(*, nodes: bool = False, kms: bool = False) -> tuple[str, ...]:
    """What this machine lacks for a lab, in words."""
    lacks = [] if sys.platform == "linux" else ["Linux"]
    if hasattr(os, "geteuid") and os.geteuid() != 0:
        lacks.append("root (run it with sudo)")
    lacks += [f"`{name}` ({package})" for name, package in _COMMANDS.items() if not _has(name)]
    if nodes:
        lacks += node_programs.missing()
    unobtainable = [name for name in _programs(nodes=nodes, kms=kms) if not obtainable(name)]
    if unobtainable:
        lacks.append(f"a Go toolchain (`go`), or {', '.join(unobtainable)} on the PATH")
    return tuple(lacks)


def up(  # noqa: PLR0913 - what a lab may have, by keyword
    folder: Path,
    clusters: Sequence[model.Cluster],
    report: Report,
    owner: Identity | None = None,
    *,
    nodes: bool = False,
    kms: bool = False,
) -> tuple[ControlPlane, ...]:
    """Start control planes in the background; interrupted, it leaves nothing.

    They end with ``down``, and with their ``owner``, if they are given one. With ``nodes`` each has
    a scheduler and nodes that are ready, two in the first cluster and one in the others. With
    ``kms`` there is a Vault on their Internet side, which nobody has opened yet.

    Raises:
        LabError: with what went wrong; nothing is left running.
    """
    layout = Layout(folder.absolute())
    lacks = missing(nodes=nodes, kms=kms)
    if lacks:
        raise LabError(f"control planes need what is missing here: {'; '.join(lacks)}")
    wanted = tuple(_numbered(clusters, nodes=nodes))
    _build(report, nodes=nodes, kms=kms)
    lock = cleanup.claim(layout, [item.name for item in wanted])
    try:
        supervisor = _spawn(layout, wanted, owner, lock, kms=kms)
    finally:
        os.close(lock)
    try:
        assert supervisor.stdout is not None  # noqa: S101 - it is a pipe
        with supervisor.stdout as steps:
            is_ready = _follow(steps, report)
    except BaseException:
        _end(supervisor, layout)
        raise
    if not is_ready:
        supervisor.wait()
        raise LabError("the supervisor died" + last_lines(layout.run.log("supervisor")))
    # It is not waited for: it is init's child once we are gone.
    supervisor.returncode = 0
    return tuple(map(layout.control_plane, wanted))


def down(folder: Path) -> bool:
    """Stop them and remove all that they left, also after a crash; ``False`` if there were none.

    Raises:
        LabError: if that can't be done.
    """
    layout = Layout(folder.absolute())
    if read_state(layout.run) and os.geteuid() != 0:
        raise LabError("stopping control planes needs root")
    return cleanup.down(layout)


def running(folder: Path) -> tuple[ControlPlane, ...]:
    """Those that run in a folder.

    Raises:
        LabError: if none do.
    """
    layout = Layout(folder.absolute())
    return tuple(map(layout.control_plane, clusters_in(layout)))


def clusters_in(layout: Layout) -> tuple[Cluster, ...]:
    """The clusters of the lab that runs in a folder.

    Raises:
        LabError: if none does.
    """
    state = read_state(layout.run)
    if state is None or not state.facts.get("ready"):
        raise LabError(f"no lab is running in {layout.root}: start one with `zt lab up`")
    if state.supervisor is None or not is_alive(state.supervisor):
        raise LabError(
            f"the supervisor of the lab in {layout.root} was killed: clean up with `zt lab down`"
        )
    return clusters_of(state.facts["clusters"])


@contextmanager
def control_planes(
    folder: Path, clusters: Sequence[model.Cluster], report: Report | None = None
) -> Iterator[Mapping[str, ControlPlane]]:
    """Control planes by name, for as long as the block lasts and this process lives."""
    started = up(folder, clusters, report or _silent, identify(os.getpid()))
    try:
        yield {item.name: item for item in started}
    finally:
        down(folder)


def _silent(_step: str) -> None:
    pass


def _has(command: str) -> bool:
    return shutil.which(command) is not None


def _programs(*, nodes: bool, kms: bool) -> tuple[str, ...]:
    return (
        *programs.CONTROL_PLANE,
        *((programs.SCHEDULER, *node_programs.BUILT) if nodes else ()),
        *((kms_server.NAME,) if kms else ()),
    )


def _numbered(clusters: Sequence[model.Cluster], *, nodes: bool = False) -> Iterator[Cluster]:
    counts = chain([_FIRST_NODES], repeat(_OTHER_NODES)) if nodes else repeat(0)
    for number, (item, count) in enumerate(zip(clusters, counts, strict=False), start=1):
        services, pods = item.service_cidr, item.pod_cidr
        if not isinstance(services, IPv4Network) or not isinstance(pods, IPv4Network):
            raise LabError(f"the lab speaks IPv4 alone, not {services}, {pods} of {item.name}")
        yield Cluster(item.name, number, services, pods, count)


def _build(report: Report, *, nodes: bool, kms: bool) -> None:
    try:
        for name in _programs(nodes=nodes, kms=kms):
            report(f"{name}: {tool(name).name}")
    except ToolError as error:
        raise LabError(str(error)) from None


def _spawn(
    layout: Layout,
    clusters: tuple[Cluster, ...],
    owner: Identity | None,
    lock: int,
    *,
    kms: bool,
) -> subprocess.Popen[bytes]:
    wanted = {
        "folder": str(layout.root),
        "clusters": plain(clusters),
        "owner": owner and {"pid": owner.pid, "started": owner.started, "boot": owner.boot},
        "kms": kms,
    }
    with layout.run.log("supervisor").open("ab") as log:
        return subprocess.Popen(  # noqa: S603 - ourselves
            [sys.executable, "-m", "lab.cluster.supervisor", json.dumps(wanted)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            env=_environment(),
            cwd="/",
            start_new_session=True,
            pass_fds=(lock,),
        )


def _environment() -> dict[str, str]:
    """What the supervisor needs: to find our own modules, and the programs."""
    kept = ("PATH", "HOME", "XDG_CACHE_HOME")
    inherited = {name: os.environ[name] for name in kept if name in os.environ}
    return {**inherited, "LANG": "C.UTF-8", "PYTHONPATH": str(_ROOT)}


def _follow(steps: IO[bytes], report: Report) -> bool:
    """Report steps until all is ready; ``False`` if the supervisor ended without a word."""
    for line in steps:
        message = json.loads(line)
        if "error" in message:
            raise LabError(message["error"])
        if "ready" in message:
            return True
        if "step" in message:
            report(message["step"])
    return False


def _end(supervisor: subprocess.Popen[bytes], layout: Layout) -> None:
    """End a supervisor that brings nothing up; logs stay, for whoever asks what happened."""
    if supervisor.poll() is None:
        supervisor.send_signal(signal.SIGTERM)
    supervisor.wait()
    if read_state(layout.run):  # it was killed
        cleanup.down(layout)
