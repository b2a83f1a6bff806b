"""A cluster as its attacker has it at hand."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from lab.attack.certificates import Material
from lab.attack.counting import counted
from lab.attack.network import PLANTED
from lab.attack.scene import Scene, Target
from lab.attack.undo import Undo
from lab.cluster.client import Client
from lab.cluster.model import LabError
from lab.nodes.pods import Pod, process_of
from lab.verify.callers import Callers, container_of
from lab.verify.trail import Trail
from zt.inject.containers import ENVOY

_LISTENER = Path(__file__).with_name("listener.py")


@dataclass
class Site:
    """``pods`` has those that attacks start from or go to, by ``<namespace>/<name>``."""

    api: Client
    scene: Scene
    pods: Mapping[str, Pod]
    callers: Callers
    trail: Trail
    undo: Undo
    svids: dict[str, Material] = field(default_factory=dict)
    _processes: dict[str, int] = field(default_factory=dict)

    @property
    def cluster(self) -> str:
        """Its name."""
        return self.scene.cluster

    def pod(self, place: str) -> Pod:
        """A pod.

        Raises:
            LabError: if it is none of the attack's.
        """
        try:
            return self.pods[place]
        except KeyError:
            raise LabError(f"there is no pod {place} in {self.cluster}") from None

    def process(self, place: str, *, sidecar: bool = False) -> int:
        """A process of a pod's application, or of its sidecar.

        Raises:
            LabError: if it does not run.
        """
        pod = self.pod(place)
        container = pod.containers.get(ENVOY) if sidecar else container_of(pod)
        if container is None:
            raise LabError(f"{place} has no sidecar that runs")
        if container not in self._processes:
            self._processes[container] = process_of(container)
        return self._processes[container]


@contextmanager
def observed(site: Site, targets: Iterable[Target]) -> Iterator[None]:
    """Count what arrives at the targets' pods, and answer there on ports that nobody declares.

    Raises:
        LabError: if that can't be done.
    """
    ports: dict[str, list[int]] = {}
    for target in targets:
        ports.setdefault(target.place.pod, []).append(target.port)
    with ExitStack() as stack:
        for place, declared in ports.items():
            pid = site.process(place)
            stack.enter_context(counted(pid))
            stack.enter_context(_planted(pid, declared))
        yield


@contextmanager
def _planted(pid: int, ports: list[int]) -> Iterator[None]:
    inside = ["nsenter", f"--net=/proc/{pid}/ns/net", "--"]
    command = [*inside, sys.executable, "-S", str(_LISTENER), *map(str, (PLANTED, *ports))]
    with subprocess.Popen(  # noqa: S603 - a program of our own
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout  # noqa: S101 - it is a pipe
        try:
            if process.stdout.readline() != "ready\n":
                raise LabError(f"nobody can listen in the network of process {pid}")
            yield
        finally:
            process.kill()
