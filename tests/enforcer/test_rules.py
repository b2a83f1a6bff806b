"""The rules agree with an evaluator of the API reference that shares no code with them."""

import random
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.enforcer.model import NamedPort, cluster_of, pod_of
from lab.enforcer.rules import Verdicts, verdicts
from lab.enforcer.selectors import selects
from lab.enforcer.table import text
from tests.enforcer.scenes import (
    OUTSIDE,
    PODS,
    SPACES,
    Expected,
    Question,
    Scene,
    address,
    policy,
    questions,
    scenes,
)


def admits(found: Verdicts, asked: Question) -> bool:
    source, destination = (ip_address(address(e)) for e in (asked.source, asked.destination))
    return found.admit(source, destination, asked.port, asked.protocol)


@given(scenes())
def test_rules_admit_what_the_reference_allows(scene: Scene) -> None:
    found, expected = verdicts(scene.cluster), Expected(scene)
    for asked in questions(scene, ("TCP", "UDP", "SCTP")):
        assert admits(found, asked) is expected.allowed(asked), asked


@given(scenes(), st.randoms(use_true_random=False))
def test_the_order_of_objects_says_nothing(scene: Scene, dice: random.Random) -> None:
    pods, spaces, policies = (
        dice.sample(part, len(part)) for part in (scene.pods, scene.namespaces, scene.policies)
    )
    other = cluster_of(pods, spaces, policies)
    assert text(other, verdicts(other)) == text(scene.cluster, verdicts(scene.cluster))


@pytest.mark.parametrize("side", ["ingress", "egress"])
def test_an_isolated_pod_without_rules_is_reached_by_none(side: str) -> None:
    denied = policy("x", "deny", policyTypes=[side.capitalize()])
    scene = Scene(PODS, SPACES, (denied,))
    found = verdicts(scene.cluster)
    own = 1 if side == "ingress" else 0
    for asked in questions(scene):
        ends = (asked.source, asked.destination)
        isolated = not isinstance(ends[own], str) and address(ends[own]) < "10.9.0.13"
        assert admits(found, asked) is not isolated


def changed(**status: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON
    return {**PODS[0], "status": {**PODS[0]["status"], **status}}


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_pod_that_ended_has_no_address(phase: str) -> None:
    assert pod_of(changed(phase=phase)) is None


def test_a_pod_without_an_address_is_not_known_yet() -> None:
    assert pod_of(changed(podIP="", podIPs=[])) is None


def test_a_pod_of_the_node_is_the_node() -> None:
    spec = {**PODS[0]["spec"], "hostNetwork": True}
    assert pod_of({**PODS[0], "spec": spec}) is None


def test_both_addresses_of_a_pod_are_isolated() -> None:
    pod = changed(podIPs=[{"ip": "10.9.0.10"}, {"ip": "fd00::10"}])
    found = verdicts(cluster_of([pod], SPACES, [policy("x", "deny")]))
    assert set(found.ingress) == {ip_address("10.9.0.10"), ip_address("fd00::10")}


def test_sidecars_have_named_ports_and_other_init_containers_none() -> None:
    def init(name: str, **more: str) -> dict[str, Any]:
        return {"name": name, "ports": [{"name": name, "containerPort": 9}], **more}

    spec = {
        **PODS[0]["spec"],
        "initContainers": [init("stays", restartPolicy="Always"), init("goes")],
    }
    pod = pod_of({**PODS[0], "spec": spec})
    assert pod is not None
    assert NamedPort("stays", "TCP", 9) in pod.ports
    assert "goes" not in {port.name for port in pod.ports}


def test_an_operator_that_the_api_does_not_have() -> None:
    with pytest.raises(ValueError, match="no operator Near"):
        selects({"matchExpressions": [{"key": "a", "operator": "Near"}]}, {})


def test_outside_is_no_pod() -> None:
    assert ip_address(OUTSIDE) not in verdicts(Scene(PODS, SPACES, ()).cluster).ingress
