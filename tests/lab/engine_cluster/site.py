"""A real API server with all that the evaluator needs in it, and nothing more."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from components.evaluator.objects import account_manifest, rights_manifests, service_manifest
from components.evaluator.policies import POLICIES
from components.sidecars import webhook_manifest
from engine.files import write_whole
from engine.kubernetes.client import Kubernetes
from lab.cluster.client import Answer, Client, client
from lab.cluster.model import ControlPlane
from lab.cluster.network import entered
from tests import waiting
from tests.engine.http.serving import WITH_RIGHTS
from tests.engine.samples import POLICY, TODAY, policy, with_callers
from zt.effective import effective
from zt.facts import Facts, facts_of
from zt.model import Service
from zt.wellknown import INJECTION_NAMESPACE

eventually = partial(waiting.eventually, patience=40.0, pause=0.05)

Json = dict[str, Any]
TEXT = with_callers(WITH_RIGHTS)
NAMESPACE = "shop"
CORE = f"/api/v1/namespaces/{NAMESPACE}"
PODS = f"{CORE}/pods"
_SLICES = f"/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices"
CONFIG_MAP = f"{CORE}/configmaps/{POLICIES}"
ACCOUNT = f"{CORE}/serviceaccounts/engine"
HOOKS = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
_RIGHTS = {
    "ClusterRole": "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    "Role": f"/apis/rbac.authorization.k8s.io/v1/namespaces/{NAMESPACE}/roles",
    "RoleBinding": f"/apis/rbac.authorization.k8s.io/v1/namespaces/{NAMESPACE}/rolebindings",
}
# What the Service has, and the namespace of the control plane answers for: there is no kube-proxy.
CLUSTER_IP = "10.1.0.50"


def facts(text: str = POLICY) -> Facts:
    found = facts_of(effective(policy(text), TODAY), "east")
    assert found is not None
    return found


def evaluator() -> Service:
    found = facts().evaluator
    assert found is not None
    return found


@dataclass
class Site:
    """A control plane. ``account`` is what a pod of the evaluator has of its service account."""

    plane: ControlPlane
    api: Client
    account: Path
    restarted: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def kubernetes(self) -> Kubernetes:
        """The evaluator's own client, with the rights of its service account, from here."""
        return Kubernetes(self.api.host, self.api.port, self.account)

    def token(self, seconds: int = 600, bound: Json | None = None) -> None:
        """A new token in the place of the last, as the kubelet renews it."""
        spec: Json = {"expirationSeconds": seconds}
        if bound is not None:
            spec["boundObjectRef"] = bound
        made = self.api.create(f"{ACCOUNT}/token", {"spec": spec}).body["status"]["token"]
        write_whole(self.account / "token", made.encode())

    def pod(self, name: str, address: str, account: str = "web", **spec: Any) -> Answer:  # noqa: ANN401
        """Create a pod, and say as a kubelet would that it runs with an address."""
        container = {"name": "app", "image": "app"}
        manifest = {
            "metadata": {"name": name, "labels": {"app": account}},
            "spec": {"serviceAccountName": account, "nodeName": "n1", "containers": [container]}
            | spec,
        }
        answer = self.api.request("POST", PODS, manifest)
        if answer.ok:
            self.status(name, phase="Running", podIP=address, podIPs=[{"ip": address}])
        return answer

    def status(self, name: str, **status: Any) -> None:  # noqa: ANN401
        path, kind = f"{PODS}/{name}/status", "application/merge-patch+json"
        answer = self.api.request("PATCH", path, {"status": status}, content_type=kind)
        assert answer.ok, answer.message

    def gone(self, name: str) -> None:
        """End a pod at once: there is no kubelet that would."""
        self.api.request("DELETE", f"{PODS}/{name}?gracePeriodSeconds=0")

    def kill_api_server(self) -> list[str]:
        """Kill it; what it was started with."""
        (found,) = _processes("kube-apiserver", self.plane.namespace)
        command = Path(f"/proc/{found}/cmdline").read_bytes().decode().split("\0")[:-1]
        os.kill(found, signal.SIGKILL)
        eventually(lambda: not self.answers())
        return command

    def start_api_server(self, command: list[str]) -> None:
        """Start it again, and wait until it answers."""
        self.restarted.append(
            subprocess.Popen(
                entered(self.plane.namespace, command),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        )
        eventually(self.answers)

    def answers(self) -> bool:
        try:
            return self.api.request("GET", "/readyz").ok
        except OSError:
            return False


def _processes(name: str, namespace: str) -> Iterator[int]:
    """Processes of a name in a network namespace."""
    where = Path(f"/run/netns/{namespace}").stat()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            comm = (entry / "comm").read_text().strip()
            its = (entry / "ns/net").stat()
        except OSError:
            continue
        if comm.startswith(name) and (its.st_dev, its.st_ino) == (where.st_dev, where.st_ino):
            yield int(entry.name)


@contextmanager
def furnished(plane: ControlPlane, folder: Path) -> Iterator[Site]:
    """What the stack installs for the evaluator, with the components' own manifests."""
    site = Site(plane, client(plane.kubeconfig), folder)
    api = site.api
    labels = dict(INJECTION_NAMESPACE)
    api.create("/api/v1/namespaces", {"metadata": {"name": NAMESPACE, "labels": labels}})
    api.apply(ACCOUNT, account_manifest(evaluator()))
    for name in ("web", "db", "api", "nobody"):
        api.create(f"{CORE}/serviceaccounts", {"metadata": {"name": name}})
    for manifest in rights_manifests(evaluator()):
        api.apply(f"{_RIGHTS[manifest['kind']]}/{manifest['metadata']['name']}", manifest)
    service = service_manifest(evaluator())
    service["spec"]["clusterIP"] = CLUSTER_IP
    api.apply(f"{CORE}/services/engine", service)
    api.apply(f"{_SLICES}/engine", _endpoints(service))
    folder.mkdir()
    (folder / "ca.crt").write_bytes(_authority(plane.kubeconfig))
    site.token()
    try:
        yield site
    finally:
        for process in site.restarted:
            process.kill()
            process.wait()


def _endpoints(service: Json) -> Json:
    """Where the API server finds the evaluator, for which no pod is there."""
    ports = [
        {"name": port["name"], "port": port["port"], "protocol": "TCP"}
        for port in service["spec"]["ports"]
    ]
    metadata = {"name": "engine", "labels": {"kubernetes.io/service-name": "engine"}}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": metadata,
        "addressType": "IPv4",
        "endpoints": [{"addresses": [CLUSTER_IP], "conditions": {"ready": True}}],
        "ports": ports,
    }


def _authority(kubeconfig: Path) -> bytes:
    (cluster,) = yaml.safe_load(kubeconfig.read_text())["clusters"]
    return base64.b64decode(cluster["cluster"]["certificate-authority-data"])


def put_policies(api: Client, text: str = TEXT) -> None:
    content = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": POLICIES},
        "data": {"policy.yaml": text},
    }
    api.apply(CONFIG_MAP, content)


def hook() -> Json:
    """The webhook as the stack registers it."""
    return webhook_manifest(facts(), evaluator())


def bundle_of(api: Client, name: str) -> bytes:
    """What API servers know our webhook by."""
    (found,) = api.get(f"{HOOKS}/{name}")["webhooks"]
    return base64.b64decode(found["clientConfig"].get("caBundle") or "")


def as_in_a_pod(site: Site, command: list[str], settings: Mapping[str, str]) -> list[str]:
    """A command in the control plane's network, with a /run of its own as in a container.

    There the service account is where a pod has it, and memory where a pod mounts some.
    """
    where = "/run/secrets/kubernetes.io/serviceaccount"
    script = (
        f"mount -t tmpfs tmpfs /run && mkdir -p {where} && mount --bind {site.account} {where}"
        ' && exec "$@"'
    )
    isolated = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"]
    named = [f"{name}={value}" for name, value in settings.items()]
    return [*entered(site.plane.namespace, [*isolated, "env", "-i", *named, *command])]


def server_of(plane: ControlPlane) -> dict[str, str]:
    """How a pod is told of the API server."""
    (cluster,) = yaml.safe_load(plane.inside.read_text())["clusters"]
    url = urlsplit(cluster["cluster"]["server"])
    return {
        "KUBERNETES_SERVICE_HOST": str(url.hostname),
        "KUBERNETES_SERVICE_PORT": str(url.port),
    }
