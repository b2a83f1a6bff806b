"""What is checked, what came of it, and the cluster that it is asked of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from lab.cluster.client import Client
from lab.cluster.model import LabError
from lab.cluster.network import NAMESPACES
from lab.nodes.model import Node
from lab.nodes.pods import Pod, pod, process_of
from lab.verify.callers import Callers
from zt.decide import DecisionTable, Verdict, decide, decision_table
from zt.effective import Effective, EffectiveService, effective
from zt.inject.containers import ENVOY
from zt.model import Policy, Protocol

Json = dict[str, Any]

_RUNNING = "Running"
# Pods that are asked at once.
_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Check:
    """What was seen of one promise: ``name`` is the promise, ``subject`` whose it is."""

    name: str
    subject: str
    held: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Place:
    """A pod of a service that the policies declare. ``manifest`` is the pod as the API has it."""

    pod: Pod
    address: str
    declared: EffectiveService
    manifest: Json

    @property
    def name(self) -> str:
        """``<namespace>/<name>``."""
        return f"{self.pod.namespace}/{self.pod.name}"

    @property
    def is_served(self) -> bool:
        """Whether it is one of the pods behind the service's name; a Job of its account is none."""
        return self.declared.service.labels.items() <= self.pod.labels.items()

    @property
    def has_sidecar(self) -> bool:
        """Whether Envoy runs in it as its sidecar."""
        return ENVOY in self.pod.containers


@dataclass(frozen=True)
class Site:
    """A cluster of a lab. ``nodes`` are by name."""

    cluster: str
    policy: Policy
    effective: Effective
    api: Client
    places: tuple[Place, ...]
    nodes: Mapping[str, Node]
    callers: Callers

    @cached_property
    def table(self) -> DecisionTable:
        """What ``decide`` asks."""
        return decision_table(self.policy, _today())

    def may(self, source: Place, destination: Place, port: int) -> bool:
        """What the policy says of a connection."""
        ids = source.declared.spiffe, destination.declared.spiffe
        return decide(self.table, *ids, port).verdict is Verdict.ALLOW

    def of(self, service: str) -> tuple[Place, ...]:
        """The pods of a service."""
        return tuple(place for place in self.places if place.declared.service.name == service)

    def outside(self, place: Place) -> Path:
        """The network namespace of a pod's node: from there the kubelet asks."""
        return NAMESPACES / self.nodes[place.pod.node or ""].namespace

    def ask(self, place: Place, **question: Any) -> Json:  # noqa: ANN401 - any JSON
        """Have a pod's application call somebody (``lab.services.caller``).

        Raises:
            LabError: if it can't.
        """
        return self.callers.of(place.pod).ask(question)


def site_of(
    cluster: str, policy: Policy, api: Client, nodes: Iterable[Node], callers: Callers
) -> Site:
    """A cluster as it is now.

    Raises:
        LabError: if its API server does not answer.
    """
    found = effective(policy, _today())
    return Site(
        cluster=cluster,
        policy=policy,
        effective=found,
        api=api,
        places=tuple(_places(api, found.in_cluster(cluster))),
        nodes={node.name: node for node in nodes if node.cluster == cluster},
        callers=callers,
    )


def _places(api: Client, services: Iterable[EffectiveService]) -> Iterator[Place]:
    by_account = {(item.service.namespace, item.service.account): item for item in services}
    for manifest in api.get("/api/v1/pods")["items"]:
        found = pod(manifest)
        declared = by_account.get((found.namespace, found.account))
        if declared and found.phase == _RUNNING and found.address and _stays(manifest):
            yield Place(found, found.address, declared, manifest)


def _stays(manifest: Json) -> bool:
    """Whether a pod does not go away by itself: those of Jobs do, and are checked as such."""
    metadata = manifest["metadata"]
    owners = metadata.get("ownerReferences") or ()
    return "deletionTimestamp" not in metadata and all(o["kind"] != "Job" for o in owners)


def _today() -> date:
    return datetime.now(UTC).date()


Judge = Callable[[], str]


def each(name: str, places: Iterable[Place], judge: Callable[[Place], str]) -> Iterator[Check]:
    """A check of each pod, several at once, in order; see ``all_of``."""
    yield from all_of(name, [(place.name, partial(judge, place)) for place in places])


def all_of(name: str, asked: Iterable[tuple[str, Judge]]) -> Iterator[Check]:
    """A check of each subject, several at once, in order.

    What a judge returns is what it saw; ``BrokenError`` says what it should not have seen.
    """
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        yield from pool.map(lambda pair: _judged(name, *pair), asked)


def _judged(name: str, subject: str, judge: Judge) -> Check:
    try:
        return Check(name, subject, held=True, detail=judge())
    except (LabError, OSError) as error:
        return Check(name, subject, held=False, detail=str(error))


def asking(protocol: Protocol) -> Json:
    """How the lab's services are asked on a port of a protocol, for ``lab.services.caller``."""
    match protocol:
        case Protocol.HTTP | Protocol.GRPC:
            return {"mode": "http"}
        case Protocol.TCP:
            return {"mode": "line", "greeted": True}
        case _:
            return {"mode": "line"}


class BrokenError(LabError):
    """A promise was not kept; the message says what was seen instead."""


def pid_of(place: Place, container: str) -> int:
    """The first process of a container.

    Raises:
        LabError: if it does not run.
    """
    if container not in place.pod.containers:
        raise BrokenError(f"{place.name} has no container {container}")
    return process_of(place.pod.containers[container])
