"""Takes a layer away, for as long as a block lasts.

What is changed is written down before, so that it is put back in any case (``lab.attack.undo``).
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from components.evaluator.policies import POLICIES
from lab.attack import widen
from lab.attack.model import Json, Plane
from lab.attack.scene import Target
from lab.attack.site import Site
from lab.attack.undo import nft, undone
from lab.cluster.client import MERGE
from lab.cluster.model import LabError
from lab.mesh.processes import identify
from lab.nodes.pods import Pod, pods, process_of
from lab.verify.callers import container_of
from zt.inject.containers import ENVOY
from zt.model import Service
from zt.wellknown import EVALUATOR_HEALTH, SIDECAR_CONFIGURATION, sidecar_configuration

# A kubelet looks at ConfigMaps when something of the pod has changed.
_NUDGE = "lab.zt.hanzo.ai/nudge"
_NUDGED_EACH = 5.0
_PATIENCE = 120.0
_PAUSE = 0.3
# Envoy and the enforcer follow within tenths of a second; nothing says so when they have.
_SETTLING = 1.5
_ASK_HEALTH = """\
import sys, urllib.request
sys.stdout.write(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode())
"""

Targets = Collection[Target]


@dataclass(frozen=True, slots=True)
class Removal:
    """What is taken away: its name, the planes that it is, and how.

    ``alone`` says what it holds that nothing else does, and why.
    """

    name: str
    planes: frozenset[Plane]
    taken: Callable[[Site, Targets], AbstractContextManager[None]]
    alone: str = ""


@contextmanager
def _lists(site: Site, targets: Targets, kinds: Collection[str]) -> Iterator[None]:
    """The lists of the targets' sidecars admit everybody."""
    with ExitStack() as stack:
        for service in _services(targets):
            stack.enter_context(_wide_sidecar(site, service, kinds))
        time.sleep(_SETTLING)
        yield
    time.sleep(_SETTLING)


@contextmanager
def _wide_sidecar(site: Site, service: Service, kinds: Collection[str]) -> Iterator[None]:
    path = _config_map(service.namespace, sidecar_configuration(service.name))
    stored = _stored(site, path)
    changed = widen.lists(stored["data"], kinds)
    found = [pod for pod in _pods(site, service) if ENVOY in pod.containers]
    processes = [process_of(pod.containers[ENVOY]) for pod in found]
    try:
        with undone(site.undo, site.undo.apply(site.cluster, path, stored)):
            _merge(site, path, {"data": changed})
            _follow(site, found, lambda: _have(processes, changed))
            yield
    finally:
        _follow(site, found, lambda: _have(processes, {k: stored["data"][k] for k in changed}))


def _have(processes: Iterable[int], files: dict[str, str]) -> bool:
    """Whether the files of a ConfigMap are such in all sidecars."""
    try:
        return all(
            Path(f"/proc/{pid}/root{SIDECAR_CONFIGURATION}/{name}").read_text() == text
            for pid in processes
            for name, text in files.items()
        )
    except OSError as error:
        raise LabError(f"a sidecar has ended meanwhile: {error}") from None


@contextmanager
def _evaluator(site: Site, _targets: Targets) -> Iterator[None]:
    """The evaluators of the cluster allow every declared service everything declared."""
    effective = site.scene.effective
    item = effective.find(site.cluster, effective.mesh.infrastructure.evaluator)
    if item is None:
        raise LabError(f"{site.cluster} has no evaluator")
    path = _config_map(item.service.namespace, POLICIES)
    stored = _stored(site, path)
    found = [pod for pod in _pods(site, item.service) if _is_evaluator(pod)]
    before = _revisions(found)
    clear = {"data": {widen.ALLOW_ALL: None}}
    try:
        with undone(site.undo, site.undo.apply(site.cluster, path, stored, clear)):
            _merge(site, path, {"data": {widen.ALLOW_ALL: widen.policy(effective)}})
            _follow(site, found, lambda: not _revisions(found) & before)
            yield
    finally:
        _follow(site, found, lambda: _revisions(found) == before)


def _is_evaluator(pod: Pod) -> bool:
    return pod.labels.get("app.kubernetes.io/component") == "evaluator"


def _revisions(found: Iterable[Pod]) -> set[str]:
    """The policies that evaluators have in force."""
    return {_health(process_of(container_of(pod)))["policy"]["revision"] for pod in found}


def _health(pid: int) -> Json:
    url = f"http://127.0.0.1:{EVALUATOR_HEALTH}/readyz"
    inside = ["nsenter", f"--net=/proc/{pid}/ns/net", "--"]
    done = subprocess.run(  # noqa: S603
        [*inside, sys.executable, "-S", "-c", _ASK_HEALTH, url],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise LabError(f"an evaluator does not say how it is: {done.stderr.splitlines()[-1]}")
    return dict(json.loads(done.stdout))


@contextmanager
def _network_policies(site: Site, _targets: Targets) -> Iterator[None]:
    """No namespace of the mesh has a NetworkPolicy."""
    services = [item.service for item in site.scene.effective.in_cluster(site.cluster)]
    with ExitStack() as stack:
        stack.callback(time.sleep, _SETTLING)
        for namespace in sorted({service.namespace for service in services}):
            base = f"/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies"
            for item in site.api.get(base)["items"]:
                path = f"{base}/{item['metadata']['name']}"
                stored = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", **item}
                stack.enter_context(undone(site.undo, site.undo.apply(site.cluster, path, stored)))
                site.api.delete(path)
        time.sleep(_SETTLING)
        yield


@contextmanager
def _redirect(site: Site, targets: Targets) -> Iterator[None]:
    """Nothing leads what comes to the targets' pods to their sidecars."""
    with ExitStack() as stack:
        for place in sorted({target.place.pod for target in targets}):
            process = identify(site.process(place))
            if process is None:
                raise LabError(f"{place} has ended")
            rules = _rules(process.pid)
            stack.enter_context(undone(site.undo, site.undo.nft(process, rules)))
            nft(process.pid, "delete table inet zt\n")
        yield


def _rules(pid: int) -> str:
    """The redirect, as nft(8) takes it back."""
    command = ["nsenter", f"--net=/proc/{pid}/ns/net", "--", "nft", "list", "table", "inet", "zt"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode != 0:
        raise LabError(f"there is no redirect in the network of process {pid}: {done.stderr}")
    return f"table inet zt\ndelete table inet zt\n{done.stdout}"


@contextmanager
def _handshake_and_evaluator(site: Site, targets: Targets) -> Iterator[None]:
    with _lists(site, targets, (widen.CLIENTS,)), _evaluator(site, targets):
        yield


REMOVALS = (
    Removal(
        "both lists of the sidecar admit everybody",
        frozenset({Plane.HANDSHAKE, Plane.RBAC}),
        lambda site, targets: _lists(site, targets, (widen.CLIENTS, widen.RBAC)),
        "A server that speaks first greets whomever the handshake admits: Envoy asks the evaluator"
        " at the client's first byte. What the client says then is refused.",
    ),
    Removal("the evaluator allows everything", frozenset({Plane.EVALUATOR}), _evaluator),
    Removal(
        "the NetworkPolicies are deleted",
        frozenset({Plane.NETWORK_POLICY}),
        _network_policies,
        "Ports that no rule declares have no sidecar before them.",
    ),
    Removal(
        "the redirect is removed",
        frozenset({Plane.REDIRECT}),
        _redirect,
        "NetworkPolicies know pods by their labels, and let a node reach its own: what comes from a"
        " declared client's pod, or from the node, they let through whatever it speaks.",
    ),
    Removal(
        "the list at the handshake and the evaluator admit everybody",
        frozenset({Plane.HANDSHAKE, Plane.EVALUATOR}),
        _handshake_and_evaluator,
    ),
)


# --- Objects --------------------------------------------------------------------------------------


def _services(targets: Targets) -> tuple[Service, ...]:
    return tuple({target.service.name: target.service for target in targets}.values())


def _pods(site: Site, service: Service) -> list[Pod]:
    """The pods of a service that have a sidecar or need none: not the attacker's own."""
    return [
        pod
        for pod in pods(site.api, service.namespace)
        if pod.account == service.account and pod.ready
    ]


def _config_map(namespace: str, name: str) -> str:
    return f"/api/v1/namespaces/{namespace}/configmaps/{name}"


def _stored(site: Site, path: str) -> Json:
    found = site.api.get(path)
    if found is None:
        raise LabError(f"{site.cluster} has no {path}")
    return dict(found)


def _merge(site: Site, path: str, patch: Json) -> None:
    """Change an object.

    Raises:
        LabError: if the API refuses.
    """
    answer = site.api.request("PATCH", path, patch, content_type=MERGE)
    if not answer.ok:
        raise LabError(f"{path} can't be changed: {answer.message}")


def _follow(site: Site, found: Iterable[Pod], is_so: Callable[[], bool]) -> None:
    """Have the kubelets look at once, and wait until pods have what their ConfigMaps say.

    Raises:
        LabError: if they don't get it.
    """
    began = time.monotonic()
    places = [f"/api/v1/namespaces/{pod.namespace}/pods/{pod.name}" for pod in found]
    nudges = 0
    while not is_so():
        waited = time.monotonic() - began
        if waited > _PATIENCE:
            raise LabError(f"pods don't get their ConfigMap within {_PATIENCE:.0f} s: {places}")
        if waited >= nudges * _NUDGED_EACH:
            nudges += 1
            _annotate(site, places, str(nudges))
        time.sleep(_PAUSE)
    _annotate(site, places, None)


def _annotate(site: Site, places: Iterable[str], value: str | None) -> None:
    for path in places:
        _merge(site, path, {"metadata": {"annotations": {_NUDGE: value}}})
