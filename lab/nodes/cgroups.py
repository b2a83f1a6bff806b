"""Control groups of nodes: one subtree each, in every hierarchy that is mounted."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from lab.cluster.model import LabError, Layout
from lab.nodes.model import Node

_MOUNTS = Path("/proc/self/mounts")
_KINDS = ("cgroup", "cgroup2")
_PATIENCE = 20.0
_PAUSE = 0.05


def renew(node: Node) -> None:
    """Make a node's group, which the kubelet wants to find, without what it had before.

    As after a machine's start there are none of dead containers: a kubelet would wait for each.

    Raises:
        LabError: if something in it does not end, or the kernel refuses.
    """
    _remove_all(lambda: [group for group in _groups(node) if group.exists()])
    for group in _groups(node):
        try:
            group.mkdir()
        except OSError as error:
            raise LabError(f"no control group can be made: {error}") from None


def remove(layout: Layout) -> None:
    """Remove every group of a lab, once what was in it has ended.

    Raises:
        LabError: if something in one does not end.
    """
    _remove_all(lambda: existing(layout))


def existing(layout: Layout) -> tuple[Path, ...]:
    """The groups that this lab has, or has left behind."""
    return tuple(group for each in hierarchies() for group in each.glob(f"{layout.prefix}*"))


def processes(layout: Layout) -> tuple[int, ...]:
    """IDs of what runs in this lab's groups: pods, whatever namespaces they are in."""
    return tuple(sorted({pid for group in existing(layout) for pid in _members(group)}))


def hierarchies() -> tuple[Path, ...]:
    """Where they are mounted: several for cgroup v1, one for v2."""
    mounts = (line.split() for line in _MOUNTS.read_text(encoding="utf-8").splitlines())
    return tuple(Path(mount[1]) for mount in mounts if mount[2] in _KINDS)


def _groups(node: Node) -> tuple[Path, ...]:
    return tuple(Path(f"{hierarchy}{node.cgroup}") for hierarchy in hierarchies())


def _remove_all(remaining: Callable[[], Sequence[Path]]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while left := remaining():
        for group in left:
            _remove(group)
        if time.monotonic() > deadline:
            raise LabError(f"something still runs in the control group {left[0]}")
        time.sleep(_PAUSE)


def _members(group: Path) -> Iterator[int]:
    for folder, _, _ in os.walk(group):
        with suppress(OSError):
            yield from map(int, Path(folder, "cgroup.procs").read_text().split())


def _remove(group: Path) -> None:
    """Remove what is empty of a tree, leaves first."""
    for folder, _, _ in os.walk(group, topdown=False):
        with suppress(OSError):
            Path(folder).rmdir()
