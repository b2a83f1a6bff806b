"""Secrets made on a real API server, with the rights that the component gives, and no others."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
import yaml

from components.generated_secret import Recipe, account_name, job_manifest, rights_manifests
from engine.kubernetes.client import Kubernetes, KubernetesError
from engine.kubernetes.recipes import recipes
from engine.kubernetes.secret import make
from lab.cluster.client import Client, client
from lab.cluster.model import ControlPlane
from zt.wellknown import SPIRE_NAMESPACE

FORBIDDEN = 403
_GROUP = "apis/rbac.authorization.k8s.io/v1"
_WHERE = {
    "ServiceAccount": "/api/v1/namespaces/{}/serviceaccounts",
    "Role": f"/{_GROUP}/namespaces/{{}}/roles",
    "RoleBinding": f"/{_GROUP}/namespaces/{{}}/rolebindings",
}


@dataclass(frozen=True)
class Scene:
    """A namespace, the component's rights there, and the API as the Job's pod sees it."""

    api: Client
    pod: Kubernetes
    namespace: str
    owner: str
    recipe: Recipe

    def secret(self, name: str = "db") -> str:
        return f"/api/v1/namespaces/{self.namespace}/secrets/{name}"

    def run(self) -> frozenset[str]:
        """What the Job does, with the recipe as the Job is told it."""
        job = job_manifest("test", [self.recipe], "image")
        (container,) = job["spec"]["template"]["spec"]["containers"]
        (told,) = recipes(container["args"][-1])
        return make(self.pod, told, self.owner)

    def data(self) -> dict[str, str]:
        found = self.api.get(self.secret())["data"]
        return {key: base64.b64decode(text).decode() for key, text in found.items()}


@pytest.fixture
def scene(control_planes: Mapping[str, ControlPlane], tmp_path: Path) -> Iterator[Scene]:
    plane = control_planes["hanzo-k8s"]
    api, name = client(plane.kubeconfig), f"secrets-{uuid4().hex[:8]}"
    recipe = Recipe(
        namespace=name,
        secret="db",
        passwords=("app", "root"),
        texts={"url": "postgresql://app:{app}@db/x"},
        certificate=("db",),
    )
    api.create("/api/v1/namespaces", {"metadata": {"name": name}})
    api.apply(f"/api/v1/namespaces/{SPIRE_NAMESPACE}", _namespace())
    for manifest in rights_manifests(name, [recipe]):
        metadata = manifest["metadata"]
        where = _WHERE[manifest["kind"]].format(metadata["namespace"])
        api.apply(f"{where}/{metadata['name']}", manifest)
    owner = account_name(name)
    token = f"{_WHERE['ServiceAccount'].format(SPIRE_NAMESPACE)}/{owner}/token"
    made = api.create(token, {"spec": {}}).body["status"]["token"]
    yield Scene(api, _pod(plane.kubeconfig, tmp_path, made), name, owner, recipe)
    api.delete(f"{_WHERE['ServiceAccount'].format(SPIRE_NAMESPACE)}/{owner}")
    api.delete(f"/api/v1/namespaces/{name}")


def _namespace() -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SPIRE_NAMESPACE}}


def _pod(kubeconfig: Path, folder: Path, token: str) -> Kubernetes:
    (cluster,) = yaml.safe_load(kubeconfig.read_text())["clusters"]
    authority = base64.b64decode(cluster["cluster"]["certificate-authority-data"])
    (folder / "ca.crt").write_bytes(authority)
    (folder / "token").write_text(token)
    server = urlsplit(cluster["cluster"]["server"])
    return Kubernetes(server.hostname or "", server.port or 443, folder)


def test_a_secret_is_made_once_and_goes_with_its_owner(scene: Scene) -> None:
    assert scene.run() == {"app", "root", "url", "tls.key", "tls.crt"}
    made = scene.data()
    assert made["url"] == f"postgresql://app:{made['app']}@db/x"
    assert scene.run() == frozenset()
    assert scene.data() == made
    scene.api.delete(f"{_WHERE['Role'].format(scene.namespace)}/{scene.owner}")
    scene.api.wait(scene.secret(), lambda found: found is None)


def test_of_runs_at_once_one_wins(scene: Scene) -> None:
    made: list[frozenset[str]] = []
    threads = [threading.Thread(target=lambda: made.append(scene.run())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(len, made)) == [0] * 7 + [5]
    values = scene.data()
    assert values["app"] in values["url"]


def test_its_rights_end_at_the_name(scene: Scene) -> None:
    """Creating by apply is creating by name: RBAC holds it there."""
    scene.run()
    secrets = f"/api/v1/namespaces/{scene.namespace}/secrets"
    elsewhere = "/api/v1/namespaces/default/secrets/db"

    def content(namespace: str, name: str) -> dict[str, Any]:
        metadata = {"name": name, "namespace": namespace}
        return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata}

    created = json.dumps(content(scene.namespace, "y")).encode()
    refused: list[Callable[[], object]] = [
        lambda: scene.pod.apply(scene.secret("x"), content(scene.namespace, "x"), "m"),
        lambda: scene.pod.apply(elsewhere, content("default", "db"), "m"),
        lambda: scene.pod.get(secrets),
        lambda: scene.pod.get(scene.secret("x")),
        lambda: scene.pod.get(elsewhere),
        lambda: scene.pod.replace(scene.secret(), content(scene.namespace, "db")),
        lambda: scene.pod._call("POST", secrets, created),
        lambda: scene.pod._call("DELETE", scene.secret()),
    ]
    for attempt in refused:
        with pytest.raises(KubernetesError) as error:
            attempt()
        assert error.value.status == FORBIDDEN
