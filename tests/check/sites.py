"""A cluster that is made up: what its pods answer, a test says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from lab.check.model import Place, Site
from lab.cluster.client import Client
from lab.nodes.pods import pod
from lab.verify.callers import Callers
from zt.effective import effective
from zt.inject.containers import ENVOY
from zt.load import load_policy

Json = dict[str, Any]
Answer = Callable[[str, Json], Json]

CLUSTER = "hanzo-k8s"
POLICY = load_policy(Path(__file__).parents[2] / "policies")


@dataclass
class Api:
    """An API server that has just these objects, by path."""

    objects: Mapping[str, Json] = field(default_factory=dict)

    def get(self, path: str) -> Json | None:
        return self.objects.get(path)


@dataclass
class Dialers:
    """Answers for all pods: ``answer(<pod's name>, question)``."""

    answer: Answer
    asked: list[tuple[str, Json]] = field(default_factory=list)

    def of(self, asking: Any) -> Any:  # noqa: ANN401 - as ``Callers``
        dialers = self

        class Dialer:
            def ask(self, question: Json) -> Json:
                dialers.asked.append((asking.name, question))
                return {"answer": None, "error": None} | dialers.answer(asking.name, question)

        return Dialer()


def manifest(service: str, name: str, address: str, **spec: Any) -> Json:  # noqa: ANN401
    """A pod of a service, as the API has it."""
    declared = found(service).service
    container = {"name": "app", "image": "none"}
    running = {"state": {"running": {}}, "containerID": f"containerd://{name}"}
    return {
        "metadata": {
            "namespace": declared.namespace,
            "name": name,
            "uid": f"uid-{name}",
            "labels": dict(declared.labels),
        },
        "spec": {
            "nodeName": "n1",
            "serviceAccountName": declared.account,
            "containers": [container],
            **spec,
        },
        "status": {
            "phase": "Running",
            "podIP": address,
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{"name": "app", "ready": True, **running}],
            "initContainerStatuses": [{"name": ENVOY, "ready": True, **running}],
        },
    }


EFFECTIVE = effective(POLICY, datetime.now(UTC).date())


def found(service: str) -> Any:  # noqa: ANN401 - EffectiveService
    item = EFFECTIVE.find(CLUSTER, service)
    assert item is not None
    return item


def place(service: str, name: str, address: str, **spec: Any) -> Place:  # noqa: ANN401
    """A pod of a service with a sidecar."""
    item = manifest(service, name, address, **spec)
    return Place(pod(item), address, found(service), item)


def site(
    answer: Answer, *places: Place, objects: Mapping[str, Json] | None = None
) -> tuple[Site, Dialers]:
    """A cluster of these pods."""
    dialers = Dialers(answer)
    built = Site(
        cluster=CLUSTER,
        policy=POLICY,
        effective=EFFECTIVE,
        api=cast("Client", Api(objects or {})),
        places=places,
        nodes={},
        callers=cast("Callers", dialers),
    )
    return built, dialers
