"""What can break in a cluster: what it is, how it is broken, and when it is back."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from components.audit.in_cluster import SERVICE as AUDIT_DATABASE
from lab.cluster import programs as control_plane
from lab.cluster.launch import is_ready as api_is_ready
from lab.cluster.model import LabError
from lab.faults.site import Site
from lab.mesh.processes import Identity, is_alive
from lab.nodes import programs as node_programs
from lab.nodes.endpoints import left_out
from lab.nodes.launch import is_ready as node_is_ready
from lab.nodes.pods import Pod
from zt.inject.containers import ENVOY
from zt.model import Service
from zt.wellknown import SPIRE_NAMESPACE

# Seconds that a program of the lab stays dead; containers are started again by their kubelet.
_DOWN = 10.0
_PAUSE = 0.5
_SYSTEM = "kube-system"


@dataclass(frozen=True, slots=True)
class Target:
    """What is to break.

    Attributes:
        containers: ``<namespace>/<name>`` of a pod and the name of its container.
        programs: Names of the lab's own processes.
        nodes: Nodes that go down with them.
        pods: Further pods that go down with them.
        probed: Pods that run on, and of which nobody knows for a while whether they are ready.
    """

    containers: tuple[tuple[str, str], ...] = ()
    programs: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    pods: frozenset[str] = frozenset()
    probed: frozenset[str] = frozenset()

    @property
    def touched(self) -> frozenset[str]:
        """All pods of which something breaks."""
        return self.pods | self.probed | {pod for pod, _ in self.containers}

    def __str__(self) -> str:
        parts = (*(f"{pod} ({container})" for pod, container in self.containers), *self.programs)
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault. ``down`` is for how many seconds nobody starts it again."""

    name: str
    title: str
    choose: Callable[[Site], Target]
    down: float = 0.0
    short: bool = False


@dataclass(slots=True)
class Broken:
    """Something that was broken, and what it was before."""

    site: Site
    target: Target
    at: datetime
    containers: Mapping[tuple[str, str], str] = field(default_factory=dict)
    programs: dict[str, Identity] = field(default_factory=dict)

    def is_back(self) -> bool:
        """Whether all of it runs again, and all its pods are ready, and Services lead to them."""
        with suppress(OSError, LabError, KeyError):
            return (
                self._programs_run()
                and self._nodes_are_ready()
                and self._pods_are_ready()
                and not self.target.touched & left_out(self.site.api)
            )
        return False

    def _programs_run(self) -> bool:
        now = {name: self.site.program(name).identity for name in self.programs}
        return all(is_alive(found) and found != self.programs[name] for name, found in now.items())

    def _nodes_are_ready(self) -> bool:
        api = self.site.api
        return api_is_ready(api) and all(
            _is_heard(api.get(f"/api/v1/nodes/{name}"), self.at) for name in self.target.nodes
        )

    def _pods_are_ready(self) -> bool:
        running = self.site.pods()
        renewed = all(
            running[pod].containers[container] != before
            for (pod, container), before in self.containers.items()
        )
        return renewed and all(running[pod].ready for pod in self.target.touched)


def break_it(site: Site, target: Target) -> Broken:
    """Kill it, without a word.

    Raises:
        LabError: if it does not run.
    """
    if not target.containers and not target.programs:
        raise LabError("nothing of that kind runs")
    running = site.pods()
    before = {
        (name, container): identity
        for name in target.touched - target.probed
        for container, identity in running[name].containers.items()
        if name in target.pods or (name, container) in target.containers
    }
    broken = Broken(site, target, datetime.now(UTC), before)
    for pod, container in target.containers:
        site.kill_container(pod, container)
    for name in target.programs:
        broken.programs[name] = site.kill_program(name)
    return broken


def await_back(broken: Broken, patience: float, meanwhile: Callable[[], None]) -> bool:
    """Wait until it is back; ``False`` if that takes longer than ``patience`` seconds."""
    deadline = time.monotonic() + patience
    while not broken.is_back():
        if time.monotonic() > deadline:
            return False
        meanwhile()
        time.sleep(_PAUSE)
    return True


def _is_heard(node: Any, since: datetime) -> bool:  # noqa: ANN401 - an object of the API
    """Whether a node's kubelet has said since then that it is ready: the API remembers long."""
    heard = (
        datetime.fromisoformat(item["lastHeartbeatTime"])
        for item in node["status"]["conditions"]
        if item["type"] == "Ready"
    )
    return node_is_ready(node) and max(heard) > since


# --- What to break --------------------------------------------------------------------------------


def _servers(count: int | None) -> Callable[[Site], Target]:
    def choose(site: Site) -> Target:
        found = _named(site, SPIRE_NAMESPACE, "spire-server-")[:count]
        return Target(tuple((pod, "spire-server") for pod in found))

    return choose


def _agent(site: Site) -> Target:
    return Target(((_named(site, SPIRE_NAMESPACE, "spire-agent-")[0], "spire-agent"),))


def _evaluators(count: int | None) -> Callable[[Site], Target]:
    def choose(site: Site) -> Target:
        name = site.effective.mesh.infrastructure.evaluator
        found = [pod for pod, it in _running(site, name).items() if "zt" in it.containers][:count]
        return Target(tuple((pod, "zt") for pod in found))

    return choose


def _audit_database(site: Site) -> Target:
    return Target(tuple((pod, "postgres") for pod in _running(site, AUDIT_DATABASE)))


def _dns(site: Site) -> Target:
    found = {name: pod for name, pod in site.pods().items() if _is_dns(name, pod.labels)}
    return Target(
        tuple((name, container) for name, pod in found.items() for container in pod.containers)
    )


def _api_server(site: Site) -> Target:
    return Target(programs=(control_plane.named(control_plane.API_SERVER, site.cluster),))


def _kubelet(site: Site) -> Target:
    node = site.nodes[-1]
    return Target(
        programs=(node_programs.named(node_programs.KUBELET, node),),
        nodes=(node.name,),
        probed=_ready_on(site, node.name),
    )


def _sidecar(site: Site) -> Target:
    """Of a service that calls and is called."""
    services = {item.service: item for item in site.effective.in_cluster(site.cluster)}
    busiest = max(
        (service for service in services if _running(site, service.name)),
        key=lambda service: min(
            len(services[service].upstreams),
            sum(len(port.clients) for port in services[service].inbound),
        ),
    )
    return Target(((min(_running(site, busiest.name)), ENVOY),))


def _node(site: Site) -> Target:
    node = site.nodes[-1]
    return Target(programs=(node.machine,), nodes=(node.name,), pods=_ready_on(site, node.name))


def _ready_on(site: Site, node: str) -> frozenset[str]:
    return frozenset(name for name, pod in site.pods().items() if pod.node == node and pod.ready)


def _running(site: Site, name: str) -> dict[str, Pod]:
    return site.pods_of(_service(site, name))


def _service(site: Site, name: str) -> Service:
    found = site.effective.find(site.cluster, name)
    if found is None:
        raise LabError(f"the policies have no service {name} in {site.cluster}")
    return found.service


def _named(site: Site, namespace: str, prefix: str) -> list[str]:
    start = f"{namespace}/{prefix}"
    found = sorted(name for name in site.pods() if name.startswith(start))
    if not found:
        raise LabError(f"no pod of {site.cluster} is called {start}...")
    return found


def _is_dns(name: str, labels: Mapping[str, str]) -> bool:
    return name.startswith(f"{_SYSTEM}/") and labels.get("k8s-app") == "kube-dns"


KINDS: tuple[Kind, ...] = (
    Kind("spire-server", "one SPIRE server", _servers(1)),
    Kind("spire-servers", "all SPIRE servers", _servers(None)),
    Kind("spire-agent", "a SPIRE agent", _agent, short=True),
    Kind("evaluator", "one evaluator", _evaluators(1), short=True),
    Kind("evaluators", "all evaluators", _evaluators(None), short=True),
    Kind("audit-database", "PostgreSQL of the trail", _audit_database, short=True),
    Kind("coredns", "CoreDNS", _dns),
    Kind("api-server", "the API server", _api_server, _DOWN, short=True),
    Kind("kubelet", "a kubelet", _kubelet, _DOWN),
    Kind("sidecar", "a sidecar", _sidecar, short=True),
    Kind("node", "a node with all its pods", _node, _DOWN),
)
