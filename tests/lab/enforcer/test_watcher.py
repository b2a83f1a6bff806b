"""The program itself, in the namespace of a node, with a real API server."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lab.cluster.client import Client, client
from lab.cluster.model import ControlPlane
from lab.cluster.network import entered
from lab.enforcer.table import NAME
from tests.enforcer.scenes import POD_NETWORK, Question, policy
from tests.lab.enforcer.site import Site, run
from tests.lab.enforcer.traffic import conversation, differing

A, B, NEW = "10.9.0.10", "10.9.0.11", "10.9.0.12"
OPEN = {"policyTypes": ["Ingress"], "ingress": [{"from": [{"podSelector": {}}]}]}
SHUT = {"policyTypes": ["Ingress"], "ingress": []}
# From the answer of the API until the kernel does it; the batch is 0.05 s.
BOUND = 2.0


@dataclass(frozen=True)
class Cluster:
    """A namespace of a cluster, whose pods are those of the site."""

    plane: ControlPlane
    api: Client
    namespace: str
    site: Site

    def pod(self, name: str, where: str) -> None:
        folder = f"/api/v1/namespaces/{self.namespace}/pods"
        container = {"name": "app", "image": "none"}
        account = {"automountServiceAccountToken": False}
        metadata = {"name": name, "labels": {"pod": name}}
        self.api.create(
            folder,
            {"metadata": metadata, "spec": {"containers": [container], **account}},
        )
        status = {"podIP": where, "podIPs": [{"ip": where}], "phase": "Running"}
        done = self.api.request(
            "PATCH",
            f"{folder}/{name}/status",
            {"status": status},
            content_type="application/merge-patch+json",
        )
        assert done.ok, done.message

    def policy(self, spec: Mapping[str, Any]) -> None:
        made = policy(self.namespace, "in", **spec)
        folder = f"/apis/networking.k8s.io/v1/namespaces/{self.namespace}/networkpolicies"
        self.api.apply(f"{folder}/in", made)

    def passes(self, source: str, target: str) -> bool:
        """Whether it gets through before long."""
        return self._becomes(source, target, wanted=True)

    def refused(self, source: str, target: str) -> bool:
        """Whether it is refused before long."""
        return self._becomes(source, target, wanted=False)

    def _becomes(self, source: str, target: str, *, wanted: bool) -> bool:
        question = {Question(source, target, 80, "TCP"): wanted}
        deadline = time.monotonic() + BOUND
        while differing(self.site, question):
            if time.monotonic() > deadline:
                return False
        return True


@contextmanager
def joined(site: Site, plane: ControlPlane) -> Iterator[None]:
    """A leg of the first node to the API server, which knows the way back."""
    leg, node = f"t{uuid.uuid4().hex[:6]}", site.node(1)
    inside = ("ip", "-n", plane.namespace)
    run(*inside, "link", "add", leg, "type", "veth", "peer", "name", "api", "netns", node)
    try:
        run(*inside, "address", "add", "203.0.113.1/30", "dev", leg)
        run(*inside, "link", "set", leg, "up")
        run("ip", "-n", node, "address", "add", "203.0.113.2/30", "dev", "api")
        run("ip", "-n", node, "link", "set", "api", "up")
        run("ip", "-n", node, "route", "add", f"{plane.address}/32", "via", "203.0.113.1")
        yield
    finally:
        run(*inside, "link", "delete", leg)


@contextmanager
def enforcing(cluster: Cluster, ready: Path, *more: str) -> Iterator[subprocess.Popen[bytes]]:
    """The program, in the namespace of the first node, once it says that it is ready."""
    options = ("--kubeconfig", str(cluster.plane.inside), "--pods", POD_NETWORK)
    command = (sys.executable, "-m", "lab.enforcer", *options, "--ready", str(ready), *more)
    with subprocess.Popen(entered(cluster.site.node(1), command)) as process:
        try:
            deadline = time.monotonic() + 20
            while not ready.exists() and time.monotonic() < deadline:
                assert process.poll() is None
                time.sleep(0.02)
            assert ready.exists()
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                assert process.wait(10) == 0


@pytest.fixture
def cluster(nodes: Site, control_planes: Mapping[str, ControlPlane]) -> Iterator[Cluster]:
    """A namespace with two pods, at an API server that the first node reaches."""
    plane = next(iter(control_planes.values()))
    namespace = f"e-{uuid.uuid4().hex[:6]}"
    api = client(plane.kubeconfig)
    api.create("/api/v1/namespaces", {"metadata": {"name": namespace}})
    api.wait(f"/api/v1/namespaces/{namespace}/serviceaccounts/default", bool)
    made = Cluster(plane, api, namespace, nodes)
    for name, where in (("a", A), ("b", B)):
        made.pod(name, where)
    with joined(nodes, plane):
        yield made
    # A namespace goes slowly, and its pods would share addresses with those of the next one.
    for folder, kind in (("/api/v1", "pods"), ("/apis/networking.k8s.io/v1", "networkpolicies")):
        api.delete(f"{folder}/namespaces/{namespace}/{kind}")
    api.delete(f"/api/v1/namespaces/{namespace}")


def test_what_the_api_is_told_is_enforced(cluster: Cluster, tmp_path: Path) -> None:
    with enforcing(cluster, tmp_path / "ready", "--remove"):
        assert cluster.passes(A, B)
        # Nobody knows this one.
        assert cluster.refused(NEW, B)
        cluster.pod("new", NEW)
        assert cluster.passes(NEW, B)
        cluster.policy(OPEN)
        with conversation(cluster.site, A, B, 90) as open_one:
            assert open_one.says(b"one", 5) == b"one"
            cluster.policy(SHUT)
            assert cluster.refused(A, B)
            assert open_one.says(b"two") == b""
            cluster.policy(OPEN)
            assert open_one.hears(5) == b"two"
    assert NAME not in cluster.site.nft(1, "list", "tables")


def test_what_was_enforced_stays_while_nobody_enforces(cluster: Cluster, tmp_path: Path) -> None:
    cluster.policy(OPEN)
    with (
        enforcing(cluster, tmp_path / "first") as process,
        conversation(cluster.site, A, B, 90) as open_one,
    ):
        process.kill()
        process.wait()
        assert open_one.says(b"one", 5) == b"one"
        assert cluster.refused(NEW, B)
        with enforcing(cluster, tmp_path / "next"):
            assert open_one.says(b"two", 5) == b"two"
        # Ended in good order, it leaves the table, too.
        assert cluster.refused(NEW, B)
        assert open_one.says(b"three", 5) == b"three"
