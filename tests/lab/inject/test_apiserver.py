"""Pods of every kind through a real API server, with its plugins before and after the webhook."""

from __future__ import annotations

import base64
import datetime as dt
import ipaddress
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from components.sidecars import webhook_manifest
from lab.cluster.client import Client, client
from lab.cluster.model import ControlPlane
from lab.cluster.network import entered
from tests.zt.inject.samples import EAST, RESOLVED, SAMPLES, sample
from zt.facts import facts_of
from zt.inject.needs import to_text
from zt.wellknown import INJECTION_NAMESPACE

INSIDE = str(Path(__file__).with_name("inside.py"))
ROOT = Path(__file__).parents[3]
HOOKS = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount"
PORT = 8057
# A control plane is started, and shares the machine with other tests.
pytestmark = pytest.mark.timeout(400)
Json = dict[str, Any]


@dataclass
class Site:
    """A control plane with the webhook, which writes its calls into a folder."""

    api: Client
    folder: Path

    def created(self, namespace: str, pod: Json) -> tuple[Json, list[str]]:
        """The pod as the API server has it; and of each call of the webhook, if it had a patch."""
        calls = self.folder / "calls"
        calls.write_text("")
        path = f"/api/v1/namespaces/{namespace}/pods?dryRun=All&fieldValidation=Strict"
        answer = self.api.request("POST", path, pod)
        assert answer.ok, answer.message
        assert isinstance(answer.body, dict)
        assert not answer.warnings
        return answer.body, calls.read_text().split()


@pytest.fixture(scope="module")
def site(
    control_planes: Mapping[str, ControlPlane], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    plane = control_planes["hanzo-k8s"]
    folder = tmp_path_factory.mktemp("webhook")
    certificate = write_certificate(folder)
    (folder / "injection.json").write_text(to_text(EAST))
    command = entered(plane.namespace, (sys.executable, INSIDE, "webhook", str(PORT), str(folder)))
    api = client(plane.kubeconfig)
    with started(command), furnished(api, certificate):
        yield Site(api, folder)


@contextmanager
def started(command: tuple[str, ...]) -> Iterator[None]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment
    ) as process:
        assert process.stdout
        try:
            assert process.stdout.readline() == "ready\n"
            yield
        finally:
            process.kill()


@contextmanager
def furnished(api: Client, certificate: bytes) -> Iterator[None]:
    """Namespaces, accounts, and the webhook as the stack registers it, at another address."""
    facts = facts_of(RESOLVED, "east")
    assert facts is not None
    assert facts.evaluator is not None
    for namespace in facts.namespaces:
        metadata = {"name": namespace, "labels": dict(INJECTION_NAMESPACE)}
        api.create("/api/v1/namespaces", {"metadata": metadata})
    for service in facts.services:
        path = f"/api/v1/namespaces/{service.namespace}/serviceaccounts"
        api.create(path, {"metadata": {"name": service.account}})
    hook = webhook_manifest(facts, facts.evaluator)
    (webhook,) = hook["webhooks"]
    authority = base64.b64encode(certificate).decode()
    url = f"https://127.0.0.1:{PORT}/inject"
    webhook["clientConfig"] = {"url": url, "caBundle": authority}
    api.create(HOOKS, hook)
    try:
        yield
    finally:
        api.delete(f"{HOOKS}/{hook['metadata']['name']}")
        for namespace in facts.namespaces:
            api.delete(f"/api/v1/namespaces/{namespace}")


OWN = ("gateway",)


@pytest.mark.parametrize("name", [name for name in SAMPLES if name not in OWN])
def test_the_api_server_takes_what_was_injected(site: Site, name: str) -> None:
    namespace, pod = sample(name)
    if name == "as-admitted":  # the volume of its token is an API server's to make
        del pod["spec"]["volumes"], pod["spec"]["containers"][0]["volumeMounts"]
    made, calls = site.created(namespace, pod)
    needs = EAST.of(namespace, pod["spec"]["serviceAccountName"])
    assert needs is not None
    first = [item["name"] for item in made["spec"].get("initContainers", ())][:2]
    expected = ["zt-envoy"] if needs.sidecar else []
    expected += ["zt-redirect"] if needs.captured else []
    assert first[: len(expected)] == expected
    # What other plugins do to a pod after us leaves nothing to be done again.
    assert calls == (["True"] if needs.sidecar else ["False"])
    annotation = made["metadata"].get("annotations", {}).get("zt.hanzo.ai/identity")
    assert annotation == (needs.spiffe if needs.sidecar else None)


def test_the_sidecar_gets_no_token_of_the_service_account(site: Site) -> None:
    namespace, pod = sample("deployment")
    made, _ = site.created(namespace, pod)
    mounts = {
        item["name"]: [m["name"] for m in item["volumeMounts"] if m["mountPath"] == TOKEN]
        for item in (*made["spec"]["initContainers"], *made["spec"]["containers"])
    }
    assert mounts["zt-envoy"] == mounts["zt-redirect"] == ["zt-no-token"]
    assert mounts["web"][0].startswith("kube-api-access-")


def test_a_pod_that_ran_can_be_made_again_from_what_the_api_server_shows(site: Site) -> None:
    namespace, pod = sample("probes")
    made, _ = site.created(namespace, pod)
    copied = {key: made[key] for key in ("apiVersion", "kind", "spec")}
    metadata = ("labels", "annotations", "generateName")
    copied["metadata"] = {key: made["metadata"][key] for key in metadata}

    again, _ = site.created(namespace, copied)

    assert again["spec"] == made["spec"]
    assert again["metadata"]["annotations"].keys() == made["metadata"]["annotations"].keys()


def test_the_meshs_own_pods_wait_for_no_webhook(site: Site) -> None:
    namespace, pod = sample("gateway")
    made, calls = site.created(namespace, pod)
    assert calls == []
    assert "initContainers" not in made["spec"]


def test_a_refusal_reaches_whoever_creates_the_pod(site: Site) -> None:
    namespace, pod = sample("deployment")
    pod["spec"]["hostNetwork"] = True
    answer = site.api.request("POST", f"/api/v1/namespaces/{namespace}/pods?dryRun=All", pod)
    assert answer.status == 403
    assert answer.message == (
        'admission webhook "injection.zt.hanzo.ai" denied the request: the pod is in the host\'s '
        "network, where the mesh can't take what comes to port 8080, 9090: remove hostNetwork, or "
        "the ports of Service shop"
    )


def write_certificate(folder: Path) -> bytes:
    """A certificate of 127.0.0.1, PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "webhook")])
    now = dt.datetime.now(dt.UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    (folder / "cert.pem").write_bytes(pem)
    return pem
