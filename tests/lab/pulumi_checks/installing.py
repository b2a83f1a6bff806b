"""The objects that a stack registers, on a real API server: applied as strictly as it can be asked.

What is looked at is what the API server makes of each object, so that no engine is needed.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.cluster.client import APPLY, Answer, Client, client
from lab.cluster.model import ControlPlane
from tests.components.registered import (
    Registered,
    as_given,
    configuration,
    main,
    run,
    with_kubeconfig,
)
from zt.wellknown import SPIRE_NAMESPACE

Json = dict[str, Any]

NAMESPACES = {"hanzo-k8s": ("hanzo", "monitoring"), "lux-k8s": ("lux",)}
STRICT = "fieldManager=checks&force=true&fieldValidation=Strict"
_PATIENCE = 60.0
_PAUSE = 0.3
_FIRST = ("MutatingWebhookConfiguration",)


@dataclass(frozen=True, slots=True)
class Object:
    """One object of a stack, and the path of its API."""

    path: str
    manifest: Json
    patch: bool

    def __str__(self) -> str:
        metadata = self.manifest["metadata"]
        where = metadata.get("namespace")
        name = f"{where}/{metadata['name']}" if where else metadata["name"]
        return f"{self.manifest['kind']} {name}"


@dataclass(frozen=True, slots=True)
class Tried:
    """What the API server answered to an object, first for real and then once more dry."""

    object: Object
    answers: tuple[Answer, Answer]


@dataclass(slots=True)
class Installed:
    """A stack's objects in a cluster."""

    stack: str
    cluster: str
    api: Client
    tried: list[Tried] = field(default_factory=list)

    def objects(self, kind: str) -> list[Json]:
        return [item.object.manifest for item in self.tried if item.object.manifest["kind"] == kind]


def registered_objects(stack: str, folder: Path) -> list[Registered]:
    config = with_kubeconfig(configuration(stack), folder)
    resources = run(main, stack, as_given(config)).resources
    return [item for item in resources if item.is_kubernetes and item.custom]


@contextmanager
def installed(stack: str, planes: Mapping[str, ControlPlane], folder: Path) -> Iterator[Installed]:
    """Apply all that a stack registers, in its order; at the end delete it."""
    cluster = stack.removeprefix("lab-")
    api = client(planes[cluster].kubeconfig)
    for name in NAMESPACES[cluster]:
        if api.get(f"/api/v1/namespaces/{name}") is None:
            api.create("/api/v1/namespaces", {"metadata": {"name": name}})
    found = Installed(stack, cluster, api)
    paths = Paths(api)
    try:
        for item in registered_objects(stack, folder):
            found.tried.append(_try(api, paths, item))
        yield found
    finally:
        _remove(api, [item.object for item in found.tried])


@dataclass(slots=True)
class Paths:
    """Where each kind is, as the API server says."""

    api: Client
    known: dict[tuple[str, str], tuple[str, str, bool]] = field(default_factory=dict)

    def of(self, manifest: Json) -> str:
        version, kind, metadata = manifest["apiVersion"], manifest["kind"], manifest["metadata"]
        base, plural, namespaced = self._kind(version, kind)
        inside = f"/namespaces/{metadata['namespace']}" if namespaced else ""
        return f"{base}{inside}/{plural}/{metadata['name']}"

    def _kind(self, version: str, kind: str) -> tuple[str, str, bool]:
        base = f"/apis/{version}" if "/" in version else f"/api/{version}"
        deadline = time.monotonic() + _PATIENCE
        # The kind of a definition that has just been made is known a moment later.
        while (version, kind) not in self.known:
            for item in (self.api.get(base) or {"resources": []})["resources"]:
                if "/" not in item["name"]:
                    self.known[version, item["kind"]] = (base, item["name"], item["namespaced"])
            assert time.monotonic() < deadline, f"{version} {kind} is unknown"
            time.sleep(0 if (version, kind) in self.known else _PAUSE)
        return self.known[version, kind]


def _try(api: Client, paths: Paths, item: Registered) -> Tried:
    manifest = {key: value for key, value in item.inputs.items() if not key.startswith("__")}
    asked = Object(paths.of(manifest), manifest, item.type.endswith("Patch"))
    applied = _patch(api, asked, STRICT)
    return Tried(asked, (applied, _patch(api, asked, f"{STRICT}&dryRun=All")))


def _patch(api: Client, asked: Object, query: str) -> Answer:
    return api.request("PATCH", f"{asked.path}?{query}", asked.manifest, content_type=APPLY)


def _remove(api: Client, objects: list[Object]) -> None:
    """Delete what was made, first what would keep others from going; take off what was patched."""
    backwards = objects[::-1]
    # A webhook that nobody serves refuses what the controllers of others do.
    for item in sorted(backwards, key=lambda item: item.manifest["kind"] not in _FIRST):
        if not item.patch:
            api.delete(f"{item.path}?propagationPolicy=Background")
            continue
        metadata = {"name": item.manifest["metadata"]["name"]}
        bare = {"apiVersion": "v1", "kind": item.manifest["kind"], "metadata": metadata}
        _patch(api, Object(item.path, bare, patch=True), STRICT)
    for item in objects:
        if not item.patch:
            api.wait(item.path, lambda live: live is None, _PATIENCE)
    assert api.get(f"/api/v1/namespaces/{SPIRE_NAMESPACE}") is None
