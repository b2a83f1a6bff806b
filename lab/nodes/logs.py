"""Keeps what containers wrote: the kubelet removes it with a container that was replaced or went.

Each file is linked, not copied: what is written to it later is kept as well.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from lab.nodes.model import Node

# Below a node's folder; each pod has a folder there, and in it one for each container.
_PODS = "var/log/pods"
_DEPTH = 2


@dataclass
class Keeper:
    """Keeps the logs of some nodes in a folder of the same file system."""

    folder: Path
    nodes: Iterable[Node]
    _known: set[int] = field(default_factory=set)

    def look(self) -> None:
        """Keep what is new. What ends between two looks is lost, if it began after the first."""
        for node in self.nodes:
            for entry in _files(str(node.folder / _PODS), _DEPTH):
                if entry.inode() not in self._known:
                    self._keep(node, entry)

    def _keep(self, node: Node, entry: os.DirEntry[str]) -> None:
        """Under a name of its own: files are renamed, and others take their names."""
        self._known.add(entry.inode())
        path = Path(entry.path)
        *_, pod, container, name = path.parts
        target = self.folder / node.name / pod / container / f"{entry.inode()}.{name}"
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileExistsError, FileNotFoundError):
            target.hardlink_to(path)


def _files(folder: str, depth: int) -> Iterator[os.DirEntry[str]]:
    """Files so deep in a folder; pods come and go meanwhile."""
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if depth and entry.is_dir(follow_symlinks=False):
                yield from _files(entry.path, depth - 1)
            elif not depth and entry.is_file(follow_symlinks=False):
                yield entry
