from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lab.cluster.model import LabError, Layout
from lab.faults.expect import EXPECTATIONS
from lab.faults.kinds import KINDS, Target, _is_heard, break_it
from lab.faults.site import Site
from lab.mesh.processes import Identity
from lab.nodes.pods import Pod
from zt.effective import Effective, effective
from zt.load import load_policy

POLICIES = Path(__file__).parents[2] / "policies"
CLUSTER = "hanzo-k8s"
NOW = datetime(2030, 1, 1, tzinfo=UTC)
POD = Pod(
    namespace="hanzo",
    name="",
    uid="",
    address="10.240.1.1",
    node="hanzo-k8s-1",
    account="default",
    phase="Running",
    ready=True,
    labels={},
    containers={},
)
CHOOSE = {kind.name: kind.choose for kind in KINDS}


class Stage(Site):
    """A cluster of which pods are known, and in which what is killed is only noted."""

    @property
    def effective(self) -> Effective:
        return effective(load_policy(POLICIES), NOW.date())

    def pods(self) -> dict[str, Pod]:
        return PODS

    def kill_container(self, pod: str, container: str) -> None:
        KILLED.append(f"{pod} {container}")

    def kill_program(self, name: str) -> Identity:
        KILLED.append(name)
        return Identity(1, 1, "boot")


def pod(namespace: str, name: str, label: str, *containers: str) -> tuple[str, Pod]:
    labels = {"k8s-app": "kube-dns"} if label == "kube-dns" else {"app": label}
    ids = {container: f"id-{name}-{container}" for container in containers}
    found = replace(POD, namespace=namespace, name=name, labels=labels, containers=ids)
    return f"{namespace}/{name}", found


KILLED: list[str] = []
PODS = dict(
    (
        pod("spire-system", "spire-server-0", "spire-server", "spire-server", "other"),
        pod("spire-system", "spire-server-1", "spire-server", "spire-server"),
        pod("spire-system", "spire-agent-x", "spire-agent", "spire-agent"),
        pod("hanzo", "zt-policy-engine-a", "zt-policy-engine", "zt-envoy", "zt"),
        pod("hanzo", "zt-policy-engine-b", "zt-policy-engine", "zt-envoy", "zt"),
        pod("hanzo", "zt-audit-migration-c", "zt-policy-engine", "zt-envoy", "migration"),
        pod("hanzo", "zt-audit-db-0", "zt-audit-db", "zt-envoy", "postgres"),
        pod("kube-system", "coredns-y", "kube-dns", "coredns"),
        pod("hanzo", "iam-z", "iam", "zt-envoy", "app"),
        pod("hanzo", "chat-z", "chat", "zt-envoy", "app"),
    )
)


@pytest.fixture
def site(tmp_path: Path) -> Stage:
    KILLED.clear()
    return Stage(Layout(tmp_path), CLUSTER)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("spire-server", {"spire-system/spire-server-0 spire-server"}),
        (
            "spire-servers",
            {
                "spire-system/spire-server-0 spire-server",
                "spire-system/spire-server-1 spire-server",
            },
        ),
        ("spire-agent", {"spire-system/spire-agent-x spire-agent"}),
        ("evaluator", {"hanzo/zt-policy-engine-a zt"}),
        ("evaluators", {"hanzo/zt-policy-engine-a zt", "hanzo/zt-policy-engine-b zt"}),
        ("audit-database", {"hanzo/zt-audit-db-0 postgres"}),
        ("coredns", {"kube-system/coredns-y coredns"}),
        ("api-server", {"kube-apiserver.hanzo-k8s"}),
        ("sidecar", {"hanzo/iam-z zt-envoy"}),
    ],
)
def test_what_is_broken_is_what_it_says(site: Stage, name: str, expected: set[str]) -> None:
    broken = break_it(site, CHOOSE[name](site))
    assert set(KILLED) == expected
    assert set(broken.containers.values()) == {
        PODS[killed.split()[0]].containers[killed.split()[1]] for killed in KILLED if " " in killed
    }


def test_every_kind_has_an_expectation() -> None:
    assert {kind.name for kind in KINDS} == EXPECTATIONS.keys()


def test_what_is_not_there_can_not_be_broken(site: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stage, "pods", lambda _: {})
    with pytest.raises(LabError, match="no pod of hanzo-k8s is called spire-system/spire-agent"):
        CHOOSE["spire-agent"](site)
    with pytest.raises(LabError, match="nothing of that kind runs"):
        break_it(site, CHOOSE["evaluators"](site))


def test_pods_of_a_node_that_dies_are_touched() -> None:
    target = Target(programs=("node.a",), nodes=("a",), pods=frozenset({"hanzo/iam-z"}))
    assert target.touched == {"hanzo/iam-z"}
    assert str(target) == "node.a"


def test_a_node_is_back_once_its_kubelet_has_said_so() -> None:
    def node(status: str, heard: datetime) -> Any:  # noqa: ANN401 - an object of the API
        said = heard.isoformat().replace("+00:00", "Z")
        condition = {"type": "Ready", "status": status, "lastHeartbeatTime": said}
        return {"status": {"conditions": [condition]}}

    later = NOW + timedelta(seconds=5)
    assert _is_heard(node("True", later), NOW)
    assert not _is_heard(node("True", NOW - timedelta(seconds=5)), NOW)
    assert not _is_heard(node("Unknown", later), NOW)
