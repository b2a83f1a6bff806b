"""Attacks by admission: pods that should never come to be.

They are asked of the API server as dry runs, which go through all of admission: one that were
accepted would not disturb the service whose pod it plays.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from lab.attack.model import Attack, Attempt, Create, Family, Json, Layer, Stop
from lab.attack.pods import pod_manifest
from lab.attack.scene import Scene
from zt.inject.containers import ENVOY
from zt.model import Service
from zt.placement import names
from zt.wellknown import INJECT, INJECTED, LABEL_PREFIX

_REFUSED = (Stop(None, frozenset({Layer.ADMISSION})),)
_NAME = "zt-attack-pod"
_DRY = "?dryRun=All"


def admission(scene: Scene) -> Iterator[Attempt]:
    """All attacks by admission, as each of the services from whose namespaces they start."""
    for service, other in _pairs(scene):
        for name, pod in _pods(scene, service, other):
            path = f"/api/v1/namespaces/{service.namespace}/pods{_DRY}"
            yield _attempt(name, service, Create(path, pod))
        forged = _pod(service, annotations={INJECTED: _nothing_injected()})
        path = f"/api/v1/namespaces/{service.namespace}/pods{_DRY}"
        yield _attempt(
            "a pod that claims to have its sidecar", service, Create(path, forged, injected=True)
        )
        yield _relabelled(scene, service, other)


def _pairs(scene: Scene) -> Iterator[tuple[Service, Service]]:
    """An enforced service of each namespace, and another one there that has a pod.

    None of the mesh's own: their pods must start while nobody injects, so the webhook leaves them.
    """
    infrastructure = scene.effective.mesh.infrastructure
    own = {infrastructure.evaluator, infrastructure.gateway}
    seen: set[str] = set()
    for target in scene.targets:
        service = target.service
        if service.name in own:
            continue
        others = (
            s for s in scene.services if s.namespace == service.namespace and s is not service
        )
        other = next(others, None)
        if service.namespace not in seen and other is not None:
            seen.add(service.namespace)
            yield service, other


def _pods(scene: Scene, service: Service, other: Service) -> Iterator[tuple[str, Json]]:
    """Pods in the namespace of ``service`` that are to be refused."""
    yield "a pod that opts out of its sidecar", _pod(service, annotations={INJECT: "false"})
    yield (
        "the identity label of another service",
        pod_manifest(_NAME, service.namespace, account=other.account, labels=service.labels),
    )
    yield (
        "a service account that no Service declares",
        pod_manifest(_NAME, service.namespace, account="default", labels={"app": _NAME}),
    )
    yield "a label that the mesh keeps for itself", _pod(service, {f"{LABEL_PREFIX}role": "any"})
    yield "the network of the host", _pod(service, spec={"hostNetwork": True})
    yield "a container with the sidecar's name", _with_container(_pod(service), ENVOY)
    upstream = _upstream_name(scene, other)
    if upstream is not None:
        aliases = [{"ip": "192.0.2.66", "hostnames": [upstream]}]
        yield "another address for an upstream's name", _pod(other, spec={"hostAliases": aliases})


def _pod(
    service: Service,
    labels: dict[str, str] | None = None,
    *,
    annotations: dict[str, str] | None = None,
    spec: Json | None = None,
) -> Json:
    """A pod of a service, and what is odd about it."""
    manifest = pod_manifest(
        _NAME,
        service.namespace,
        account=service.account,
        labels=service.labels | (labels or {}),
    )
    manifest["metadata"]["annotations"] = annotations or {}
    manifest["spec"] |= spec or {}
    return manifest


def _with_container(manifest: Json, name: str) -> Json:
    first: dict[str, Any] = manifest["spec"]["containers"][0]
    manifest["spec"]["containers"].append(first | {"name": name})
    return manifest


def _upstream_name(scene: Scene, service: Service) -> str | None:
    found = scene.effective.find(scene.cluster, service.name)
    for grant in found.upstreams if found else ():
        for name in names(service, grant.destination):
            return name
    return None


def _nothing_injected() -> str:
    return json.dumps({"probes": {}, "sysctl": False})


def _relabelled(scene: Scene, service: Service, other: Service) -> Attempt:
    """A running pod of one service, that gets the labels of another."""
    namespace, _, name = scene.places[other.name].pod.partition("/")
    path = f"/api/v1/namespaces/{namespace}/pods/{name}{_DRY}"
    patch = {"metadata": {"labels": service.labels}}
    return _attempt(
        "the identity label of another service, on a pod that runs",
        service,
        Create(path, patch, "PATCH"),
    )


def _attempt(name: str, service: Service, action: Create) -> Attempt:
    return Attempt(Attack(name, Family.ADMISSION, _REFUSED), service.name, action)
