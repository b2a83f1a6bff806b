"""Sets the stage in a cluster: who is attacked, and the pods and Services of the attacker."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from lab.attack.model import Json
from lab.attack.pods import MARK, bare_pod, inside_alias, outside_alias, outside_pods
from lab.attack.scene import OUTSIDE, Place, Scene
from lab.attack.undo import Undo
from lab.cluster.client import MERGE, Client
from lab.cluster.model import LabError
from lab.nodes.pods import Pod, pods
from lab.services.manifests import CONTAINER
from lab.up.objects import path_of
from zt.effective import Effective
from zt.model import Service
from zt.wellknown import INJECTION_NAMESPACE

_PATIENCE = 120.0
_PAUSE = 0.3
_NAMESPACE = {
    "apiVersion": "v1",
    "kind": "Namespace",
    "metadata": {"name": OUTSIDE, "labels": dict(MARK)},
}


def scene_of(api: Client, effective: Effective, cluster: str) -> Scene:
    """Who is there to be attacked, before anything is made.

    Raises:
        LabError: if the API server refuses.
    """
    running = sorted((pod for pod in pods(api) if pod.ready), key=place_of)
    services = [item.service for item in effective.in_cluster(cluster)]
    chosen = {s.name: pod for s in services if (pod := _pod_of(s, running)) is not None}
    return Scene(
        cluster=cluster,
        effective=effective,
        places={name: _place(pod) for name, pod in chosen.items()},
        callers=frozenset(name for name, pod in chosen.items() if CONTAINER in pod.containers),
        nodes=tuple(sorted({pod.node for pod in running if pod.node})),
        aliases={},
    )


def place_of(pod: Pod) -> str:
    """``<namespace>/<name>`` of a pod."""
    return f"{pod.namespace}/{pod.name}"


def _place(pod: Pod) -> Place:
    return Place(place_of(pod), pod.address or "", pod.node or "")


def _pod_of(service: Service, running: Iterable[Pod]) -> Pod | None:
    """A pod of a service: one that its own Service would choose."""
    own = (service.namespace, service.account)
    found = (pod for pod in running if (pod.namespace, pod.account) == own)
    return next((pod for pod in found if service.labels.items() <= pod.labels.items()), None)


def set_up(api: Client, scene: Scene, undo: Undo) -> tuple[Scene, Mapping[str, Pod]]:
    """Make all that the attacker has in a cluster; the scene with it, and all pods by place.

    Raises:
        LabError: if it can't be made.
    """
    wanted = {f"{OUTSIDE}/{pod['metadata']['name']}" for pod in outside_pods(scene)}
    api.wait(path_of(_NAMESPACE), lambda found: found is None, _PATIENCE)
    _make(api, scene, undo, _NAMESPACE)
    # The account of its pods comes by itself, a moment later.
    account = f"/api/v1/namespaces/{OUTSIDE}/serviceaccounts/default"
    api.wait(account, lambda found: found is not None)
    for manifest in outside_pods(scene):
        api.create(f"/api/v1/namespaces/{OUTSIDE}/pods", manifest)
    bare = bare_pod(scene)
    if bare is not None:
        _make_bare(api, scene, undo, bare)
        wanted.add(f"{bare['metadata']['namespace']}/{bare['metadata']['name']}")
    aliases = dict(_aliases(api, scene, undo))
    return replace(scene, aliases=aliases), _running(api, scene, wanted)


def _make(api: Client, scene: Scene, undo: Undo, manifest: Json) -> Any:  # noqa: ANN401 - any JSON
    """Make an object, which is deleted in the end."""
    path = path_of(manifest)
    undo.delete(scene.cluster, path)
    return api.create(path.rpartition("/")[0], manifest).body


def _make_bare(api: Client, scene: Scene, undo: Undo, manifest: Json) -> None:
    """Make a pod while its namespace's pods are not injected."""
    namespace = manifest["metadata"]["namespace"]
    path = f"/api/v1/namespaces/{namespace}"
    (label, value), *_ = INJECTION_NAMESPACE.items()
    again = undo.merge(scene.cluster, path, {"metadata": {"labels": {label: value}}})
    try:
        without = {"metadata": {"labels": {label: None}}}
        answer = api.request("PATCH", path, without, content_type=MERGE)
        if not answer.ok:
            raise LabError(f"namespace {namespace} can't be changed: {answer.message}")
        _made_bare(api, scene, undo, manifest)
    finally:
        undo.done(again)


def _made_bare(api: Client, scene: Scene, undo: Undo, manifest: Json) -> None:
    """Make the pod once the API server has heard that nobody injects; it takes a moment."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        made = _make(api, scene, undo, manifest)
        if not made["spec"].get("initContainers"):
            return
        path = path_of(manifest)
        api.delete(f"{path}?gracePeriodSeconds=0")
        api.wait(path, lambda found: found is None)
        if time.monotonic() > deadline:
            raise LabError(f"{path} has a sidecar all the same")


def _aliases(api: Client, scene: Scene, undo: Undo) -> Iterator[tuple[str, str]]:
    """Services of other names for each target, and their addresses."""
    for target in scene.targets:
        made = _make(api, scene, undo, inside_alias(target))
        yield f"inside {target.name}", made["spec"]["clusterIP"]
        service, addresses = outside_alias(target)
        made = _make(api, scene, undo, service)
        _make(api, scene, undo, addresses)
        yield f"outside {target.name}", made["spec"]["clusterIP"]


def _running(api: Client, scene: Scene, wanted: set[str]) -> Mapping[str, Pod]:
    """The pods of the scene and of the attacker, once all run."""
    needed = wanted | {place.pod for place in scene.places.values()}
    deadline = time.monotonic() + _PATIENCE
    while True:
        found = {place_of(pod): pod for pod in pods(api) if pod.phase == "Running"}
        if needed <= found.keys():
            return found
        if time.monotonic() > deadline:
            raise LabError(f"pods don't run: {', '.join(sorted(needed - found.keys()))}")
        time.sleep(_PAUSE)
