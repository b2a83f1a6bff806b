from datetime import UTC, datetime
from pathlib import Path

import pytest

from lab.faults.flows import Place, crossing, dialled
from lab.faults.traffic import Dialled
from zt.effective import Effective, effective
from zt.load import load_policy

POLICIES = Path(__file__).parents[2] / "policies"
CLUSTER = "hanzo-k8s"


@pytest.fixture(scope="module")
def policy() -> Effective:
    return effective(load_policy(POLICIES), datetime.now(UTC).date())


def places(policy: Effective, *names: str, cluster: str = CLUSTER) -> list[Place]:
    found = []
    for number, name in enumerate(names):
        item = policy.find(cluster, name)
        assert item
        pods = {f"{item.service.namespace}/{name}-0": f"10.240.1.{number}"}
        found.append(Place(item.service, pods, f"10.241.0.{number}"))
    return found


def named(flows: tuple[Dialled, ...], *, declared: bool) -> set[str]:
    return {str(item.flow) for item in flows if item.flow.declared is declared}


def test_every_edge_between_what_runs_is_a_flow(policy: Effective) -> None:
    flows = dialled(policy, places(policy, "iam", "postgres", "redis", "chat"))
    assert named(flows, declared=True) == {
        "hanzo/iam -> hanzo/postgres:5432",
        "hanzo/iam -> hanzo/redis:6379",
    }


def test_declared_flows_are_dialled_by_name_in_the_protocol_of_the_port(policy: Effective) -> None:
    flows = dialled(policy, places(policy, "iam", "postgres", "gateway"))
    asked = {str(item.flow): item.asked for item in flows if item.flow.declared}
    postgres = asked["hanzo/iam -> hanzo/postgres:5432"]
    assert (postgres["host"], postgres["speaks"], postgres["greeted"]) == (
        "postgres",
        "line",
        False,
    )
    assert asked["hanzo/gateway -> hanzo/iam:8000"]["speaks"] == "http"


def test_a_service_of_another_namespace_is_dialled_with_it(policy: Effective) -> None:
    flows = dialled(policy, places(policy, "prometheus", "wg-gateway"))
    (asked,) = [item.asked for item in flows if item.flow.declared]
    assert asked["host"] == "wg-gateway.hanzo"


def test_nothing_that_is_tried_against_the_policy_is_declared(policy: Effective) -> None:
    flows = dialled(policy, places(policy, "iam", "postgres", "redis", "chat", "gateway", "minio"))
    granted = {item.flow.edge for item in flows if item.flow.declared}
    refused = [item.flow for item in flows if not item.flow.declared]
    assert {flow.how for flow in refused} == {"undeclared", "past the sidecar, in plaintext"}
    for flow in refused:
        assert (flow.edge in granted) == (flow.how != "undeclared")
        assert flow.edge.source != flow.edge.destination


def test_each_service_tries_others(policy: Effective) -> None:
    flows = dialled(policy, places(policy, "iam", "postgres", "redis", "chat", "gateway", "minio"))
    undeclared = [item.flow for item in flows if item.flow.how == "undeclared"]
    assert len({flow.edge.source for flow in undeclared}) == 6
    assert len({flow.edge.destination for flow in undeclared}) > 3


def test_past_the_sidecar_a_pod_is_dialled_by_its_address(policy: Effective) -> None:
    flows = dialled(policy, places(policy, "iam", "postgres"))
    (asked,) = [item.asked for item in flows if item.flow.how.startswith("past")]
    assert asked["host"] == "10.240.1.1"


def test_what_does_not_run_is_not_called(policy: Effective) -> None:
    assert dialled(policy, [Place(item.service, {}, None) for item in policy.services]) == ()


def test_what_crosses_the_tunnel_is_declared_and_dialled_by_its_clusters_name(
    policy: Effective,
) -> None:
    here = places(policy, "validator", cluster="lux-k8s")
    beyond = places(policy, "iam", "gateway", "chat", "postgres")
    flows = crossing(policy, here, beyond)
    assert {item.flow.declared for item in flows} == {True}
    granted = {
        (grant.destination.name, grant.port)
        for item in policy.services
        if item.service is here[0].service
        for grant in item.upstreams
        if grant.destination in [place.service for place in beyond]
    }
    assert granted
    assert {(item.asked["host"], item.asked["port"]) for item in flows} == {
        (f"{name}.hanzo.hanzo-k8s", port) for name, port in granted
    }
    assert crossing(policy, beyond, here) == ()
