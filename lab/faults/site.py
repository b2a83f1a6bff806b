"""A running cluster of the lab, as faults need it: what runs where, and how it is reached."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lab.cluster.client import Client, client
from lab.cluster.model import LabError, Layout, clusters_of
from lab.faults.flows import Place, crossing, dialled
from lab.faults.traffic import Dialled
from lab.mesh.policies import read, today
from lab.mesh.processes import Identity, Recorded, State, identify, is_alive, read_state, send
from lab.nodes import programs as node_programs
from lab.nodes.model import Node, nodes_of
from lab.nodes.pods import Pod, entered, pods, process_of
from lab.services.manifests import CONTAINER, team_services
from lab.services.program import carried
from lab.verify.callers import Caller, container_of
from zt.effective import Effective, effective
from zt.model import Service

Json = dict[str, Any]

# An API server that was killed does not keep anybody waiting.
_SILENCE = 3.0


@dataclass(frozen=True)
class Site:
    """A cluster of a lab that runs in a folder."""

    layout: Layout
    cluster: str

    @cached_property
    def effective(self) -> Effective:
        """The policies that are in force."""
        return effective(read(self.layout.policies), today())

    @cached_property
    def api(self) -> Client:
        """Its API server, as the administrator."""
        return client(self.layout.kubeconfig(self.cluster), _SILENCE)

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """Its nodes."""
        clusters = clusters_of(self._state().facts["clusters"])
        return tuple(n for n in nodes_of(self.layout, clusters) if n.cluster == self.cluster)

    # --- Pods -------------------------------------------------------------------------------------

    def pods(self) -> dict[str, Pod]:
        """What runs, by ``<namespace>/<name>``.

        Raises:
            OSError: if the API server does not answer.
        """
        return {f"{pod.namespace}/{pod.name}": pod for pod in pods(self.api)}

    def pods_of(self, service: Service) -> dict[str, Pod]:
        """Those of a service, by name, in order."""
        wanted = service.labels.items()
        return {
            name: pod
            for name, pod in sorted(self.pods().items())
            if pod.namespace == service.namespace and wanted <= pod.labels.items()
        }

    def kill_container(self, pod: str, container: str) -> None:
        """Kill all processes of a container, as its kernel would.

        Raises:
            LabError: if it does not run.
        """
        found = self.pods()[pod].containers.get(container)
        if found is None:
            raise LabError(f"the pod {pod} has no running container {container}")
        kill(process_of(found))

    def callable(self, service: Service) -> dict[str, str]:
        """Addresses of the pods of a team's service that are ready, by name."""
        return {
            name: pod.address
            for name, pod in self.pods_of(service).items()
            if pod.ready and pod.address and CONTAINER in pod.containers
        }

    # --- Programs ---------------------------------------------------------------------------------

    def program(self, name: str) -> Recorded:
        """A program of the lab itself, as its record has it.

        Raises:
            LabError: if it has none of that name.
        """
        known = {item.name: item for item in self._state().processes}
        if name not in known:
            raise LabError(f"the lab has no process {name!r}; it has {', '.join(sorted(known))}")
        return known[name]

    def kill_program(self, name: str) -> Identity:
        """Kill a program, with what entered a node for it; returns who it was.

        Raises:
            LabError: if it does not run.
        """
        return self._signal(name, signal.SIGKILL)

    @contextmanager
    def network_policies_held(self) -> Iterator[None]:
        """NetworkPolicies stay as they are enforced now, whatever the API says of them.

        Raises:
            LabError: if an enforcer does not run.
        """
        names = [node_programs.named(node_programs.ENFORCER, node) for node in self.nodes]
        try:
            for name in names:
                self._signal(name, signal.SIGSTOP)
            yield
        finally:
            for name in names:
                self._signal(name, signal.SIGCONT)

    def _signal(self, name: str, number: signal.Signals) -> Identity:
        found = self.program(name).identity
        if not is_alive(found):
            raise LabError(f"{name} does not run")
        # Each has a session, and so a group, of its own.
        os.killpg(found.pid, number)
        return found

    def revive(self) -> None:
        """Have the supervisor start what has died.

        Raises:
            LabError: if it is gone.
        """
        supervisor = self._state().supervisor
        if supervisor is None or not send(supervisor, signal.SIGHUP):
            raise LabError("the supervisor of the lab is gone: clean up with `zt lab down`")

    # --- Flows ------------------------------------------------------------------------------------

    def flows(self) -> tuple[Dialled, ...]:
        """All flows that can run here now."""
        return dialled(self.effective, self.places())

    def crossing(self, others: Iterable[Site]) -> tuple[Dialled, ...]:
        """Declared flows from here into other clusters, through the tunnel."""
        beyond = [place for other in others for place in other.places()]
        return crossing(self.effective, self.places(), beyond)

    def dial(self, pod: str) -> Caller:
        """A caller in the application's container.

        Raises:
            LabError: if that does not run.
            OSError: if the API server does not answer, or the pod ends.
        """
        found = self.pods().get(pod)
        if found is None:
            raise LabError(f"there is no pod {pod}")
        return Caller(entered(process_of(container_of(found)), carried()), pod)

    def places(self) -> tuple[Place, ...]:
        """The teams' services, as they run here now."""
        services = team_services(self.effective.policy, self.cluster)
        return tuple(Place(it, self.callable(it), self._address(it)) for it in services)

    def _address(self, service: Service) -> str | None:
        path = f"/api/v1/namespaces/{service.namespace}/services/{service.name}"
        found: Mapping[str, Any] | None = self.api.get(path)
        address = found["spec"].get("clusterIP") if found else None
        return None if address in (None, "None") else str(address)

    def _state(self) -> State:
        state = read_state(self.layout.run)
        if state is None:
            raise LabError(f"no lab is running in {self.layout.root}: start one with `zt lab up`")
        return state


def kill(pid: int) -> None:
    """Kill a process, which may be gone already."""
    found = identify(pid)
    if found is not None:
        send(found, signal.SIGKILL)
