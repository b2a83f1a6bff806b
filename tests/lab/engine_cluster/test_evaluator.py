"""The evaluator beside a real API server: as a pod of it, but for the kubelet."""

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from components.evaluator.policies import POLICIES
from engine.http.sources import ConfigMapSource, StaleError
from lab.cluster.forward import forward
from lab.cluster.network import ip
from tests.engine.conftest import Database
from tests.engine.http.serving import READER, WRITER
from tests.engine.http.test_edit import CORE as POLICY_CORE
from tests.engine.running import ROOT
from tests.engine.samples import ENGINE, Authority
from tests.engine.spire.workload_api import Agent, given, serving
from tests.lab.engine_cluster.site import (
    CLUSTER_IP,
    CONFIG_MAP,
    HOOKS,
    NAMESPACE,
    TEXT,
    Site,
    as_in_a_pod,
    bundle_of,
    eventually,
    hook,
    put_policies,
    server_of,
)

Json = dict[str, Any]
Start = Callable[[], AbstractContextManager["Evaluator"]]

YAML = {"Content-Type": "application/yaml"}

# A control plane and what asks it share a machine with whatever else is tested.
pytestmark = pytest.mark.timeout(400)


class Evaluator:
    """A running evaluator; its ports are reached through the control plane's namespace."""

    def __init__(self, site: Site, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._log = log
        self._ports = {
            port: forward(site.plane.namespace, CLUSTER_IP, port) for port in (8054, 8055)
        }

    @property
    def said(self) -> str:
        return self._log.read_text()

    def is_ready(self) -> bool:
        assert self.process.poll() is None, self.said
        try:
            answer = httpx.get(f"http://127.0.0.1:{self._ports[8055]}/readyz")
        except httpx.TransportError:
            return False
        return answer.is_success and "the webhook answers" in self.said

    def client(self, authority: Authority, spiffe: str) -> httpx.Client:
        url = f"https://127.0.0.1:{self._ports[8054]}"
        return httpx.Client(base_url=url, verify=authority.client(spiffe), timeout=30)


@pytest.fixture
def agent(authority: Authority, tmp_path: Path) -> Iterator[Agent]:
    made = Agent()
    made.say(given(authority, ENGINE))
    with serving(tmp_path / "agent.sock", made):
        yield made


@pytest.fixture
def policies(site: Site, tmp_path: Path) -> Path:
    """The ConfigMap, and where a kubelet would mount it."""
    put_policies(site.api)
    folder = tmp_path / "policies"
    folder.mkdir()
    (folder / "policy.yaml").write_text(TEXT)
    return folder


@pytest.fixture
def start(
    site: Site, agent: Agent, policies: Path, database: Database, tmp_path: Path
) -> Iterator[Start]:
    assert agent.said
    ip("-n", site.plane.namespace, "address", "add", f"{CLUSTER_IP}/32", "dev", "lo")
    settings = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "ZT_AUDIT_DSN": database.dsn,
        "ZT_POLICY_PATH": str(policies),
        "ZT_STATE_PATH": str(tmp_path / "state"),
        "ZT_SPOOL_BYTES": str(256 << 20),
        "ZT_SPIRE_SOCKET": str(tmp_path / "agent.sock"),
        "ZT_CLUSTER": "east",
        "ZT_POLICY_CONFIGMAP": f"{NAMESPACE}/{POLICIES}",
        "ZT_WEBHOOK": hook()["metadata"]["name"],
        "ZT_ENVOY_IMAGE": "registry.example/envoy:1",
        "ZT_REDIRECT_IMAGE": "registry.example/gateway:1",
        **server_of(site.plane),
    }
    log = tmp_path / "log"

    @contextmanager
    def started() -> Iterator[Evaluator]:
        command = as_in_a_pod(site, [sys.executable, "-m", "engine"], settings)
        with log.open("wb") as said, subprocess.Popen(command, stderr=said) as process:
            made = Evaluator(site, process, log)
            try:
                eventually(made.is_ready)
                yield made
            finally:
                process.send_signal(signal.SIGTERM)
                assert process.wait(30) == 0, log.read_text()

    yield started
    ip("-n", site.plane.namespace, "address", "del", f"{CLUSTER_IP}/32", "dev", "lo")


@pytest.fixture
def registered(site: Site) -> Iterator[str]:
    """The webhook, as the stack registers it; its name."""
    manifest = hook()
    name = manifest["metadata"]["name"]
    site.api.create(HOOKS, manifest)
    yield name
    site.api.delete(f"{HOOKS}/{name}")


@pytest.fixture
def unique() -> str:
    return uuid.uuid4().hex[:6]


def test_a_pod_is_injected_through_the_real_api_server(
    site: Site, start: Start, registered: str, authority: Authority, unique: str
) -> None:
    assert bundle_of(site.api, registered) == b""
    refused = site.pod(f"early-{unique}", "10.0.5.1")
    assert refused.status == 500
    assert "failed calling webhook" in refused.message
    with start() as evaluator:
        eventually(lambda: bundle_of(site.api, registered) == authority.bundle)
        eventually(lambda: site.pod(f"web-{unique}", "10.0.5.2").ok)
        made = site.api.get(f"/api/v1/namespaces/{NAMESPACE}/pods/web-{unique}")
        sidecar = made["spec"]["initContainers"][0]
        assert sidecar["image"] == "registry.example/envoy:1"
        assert sidecar["restartPolicy"] == "Always"
        assert [found["name"] for found in made["spec"]["containers"]] == ["app"]
        stranger = site.pod(f"nobody-{unique}", "10.0.5.3", "nobody")
        assert stranger.ok
        assert "no Service declares service account nobody" in stranger.warnings[0]
        host = site.pod(f"host-{unique}", "192.0.2.10", "db", hostNetwork=True)
        assert host.status >= 400
        assert "network" in host.message
        again = site.pod(f"db-{unique}", "10.0.5.4", "db")
        assert again.ok, again.message
        assert "Traceback" not in evaluator.said
    gone = site.pod(f"late-{unique}", "10.0.5.5")
    assert gone.status == 500
    assert "connection refused" in gone.message
    with start():
        eventually(lambda: site.pod(f"later-{unique}", "10.0.5.6").ok)


def test_whoever_changes_the_ca_it_is_put_right(
    site: Site, start: Start, registered: str, authority: Authority, agent: Agent
) -> None:
    path = f"{HOOKS}/{registered}"

    def is_kept() -> bool:
        return bundle_of(site.api, registered) == authority.bundle

    with start():
        eventually(is_kept)
        operation = {"op": "remove", "path": "/webhooks/0/clientConfig/caBundle"}
        kind = "application/json-patch+json"
        assert site.api.request("PATCH", path, [operation], content_type=kind).ok
        eventually(is_kept)
        site.api.delete(path)
        site.api.create(HOOKS, hook())
        eventually(is_kept)
        owners = site.api.get(path)["metadata"]["managedFields"]
        assert "zt-policy-engine" in {owner["manager"] for owner in owners}
        # The stack applies its object again: it says nothing of the CA, which stays.
        site.api.apply(path, hook(), manager="pulumi-kubernetes")
        assert is_kept()
        renewed = Authority()
        agent.say(given(renewed, ENGINE))
        eventually(lambda: bundle_of(site.api, registered) == renewed.bundle)
        eventually(lambda: site.pod(f"web-{uuid.uuid4().hex[:6]}", "10.0.6.1").ok)


def test_a_policy_is_changed_in_its_config_map_by_whom_may(
    site: Site, start: Start, authority: Authority, policies: Path
) -> None:
    path = "/v1/policies/core"
    before = site.api.get(CONFIG_MAP)["metadata"]["resourceVersion"]
    with start() as evaluator:
        reader, writer = (evaluator.client(authority, who) for who in (READER, WRITER))
        with reader, writer:
            tag = reader.get(path).headers["etag"]
            sent = YAML | {"If-Match": tag}
            assert reader.put(path, content=POLICY_CORE, headers=sent).status_code == 403
            answer = writer.put(path, content=POLICY_CORE, headers=sent)
            assert answer.status_code == 200, answer.text
            changed = site.api.get(CONFIG_MAP)
            assert changed["metadata"]["resourceVersion"] != before
            assert "# one rule, and a comment" in changed["data"]["policy.yaml"]
            # As the kubelet would, some seconds later.
            (policies / "policy.yaml").write_text(changed["data"]["policy.yaml"])
            follows = answer.headers["etag"]
            eventually(lambda: reader.get(path).headers["etag"] == follows)
            assert writer.put(path, content=POLICY_CORE, headers=sent).status_code == 412
        assert "Traceback" not in evaluator.said


def test_of_two_changes_at_once_the_second_is_refused(site: Site, policies: Path) -> None:
    assert policies.is_dir()
    mine, yours = (ConfigMapSource(site.kubernetes, NAMESPACE, POLICIES) for _ in range(2))
    text = mine.read()["policy.yaml"]
    yours.read()
    yours.write("policy.yaml", text + b"# yours\n")
    with pytest.raises(StaleError):
        mine.write("policy.yaml", text + b"# mine\n")
    assert site.api.get(CONFIG_MAP)["data"]["policy.yaml"].endswith("# yours\n")


def test_the_pods_of_the_cluster_are_known_by_their_addresses(
    site: Site, start: Start, authority: Authority, unique: str, tmp_path: Path
) -> None:
    table = tmp_path / "state/locations.json"
    with start() as evaluator:
        assert site.pod(f"web-{unique}", "10.0.7.1").ok
        eventually(lambda: "10.0.7.1" in table.read_text())
        command = site.kill_api_server()
        with evaluator.client(authority, READER) as reader:
            asked = {"source": READER, "destination": READER, "port": "5432"}
            assert reader.get("/v1/explain", params=asked).status_code == 200
        site.start_api_server(command)
        assert site.pod(f"db-{unique}", "10.0.7.2", "db").ok
        eventually(lambda: "10.0.7.2" in table.read_text())
