"""The kernel lets through what the reference allows, packet by packet."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given, settings

from lab.enforcer.model import Cluster, cluster_of
from lab.enforcer.rules import verdicts
from lab.enforcer.table import text
from tests.enforcer.scenes import (
    OUTSIDE,
    POD_NETWORK,
    PODS,
    PROTOCOLS,
    SPACES,
    Expected,
    Question,
    Scene,
    address,
    pod,
    policy,
    questions,
    scenes,
)
from tests.lab.enforcer.site import FAR, NEAR_FAR, STRANGER, Site, node_address
from tests.lab.enforcer.traffic import conversation, differing

A, B, C = map(address, PODS[:3])
NETWORKS = (ip_network(POD_NETWORK),)
HERE: Any = [{"podSelector": {}}]


def table(cluster: Cluster) -> str:
    return text(cluster, verdicts(cluster), NETWORKS)


def scene(*policies: dict[str, Any]) -> Scene:
    return Scene(PODS, SPACES, policies)


def ingress(*rules: dict[str, Any], **spec: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON
    return policy("x", "in", policyTypes=["Ingress"], ingress=list(rules), **spec)


def egress(*rules: dict[str, Any], **spec: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON
    return policy("x", "out", policyTypes=["Egress"], egress=list(rules), **spec)


SCENES = {
    "nothing": scene(),
    "ingress": scene(ingress({"from": HERE})),
    "egress": scene(egress({"to": HERE})),
    "both": scene(ingress({"from": HERE}), egress({"to": HERE})),
    "ports": scene(ingress({"ports": [{"port": 80}, {"port": 81, "protocol": "UDP"}]})),
    "a range of ports": scene(egress({"ports": [{"port": 70, "endPort": 80}]})),
    "named ports": scene(ingress({"ports": [{"port": "serve-81-tcp"}]})),
    "named ports of others": scene(
        egress({"to": HERE, "ports": [{"port": "serve-80-udp", "protocol": "UDP"}]})
    ),
    "a network without a part": scene(
        ingress({"from": [{"ipBlock": {"cidr": POD_NETWORK, "except": [f"{B}/32"]}}]}),
        egress({"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": [POD_NETWORK]}}]}),
    ),
    "namespaces": scene(
        ingress({"from": [{"namespaceSelector": {"matchLabels": {"ns": "y"}}}]}),
    ),
    "pods of namespaces": scene(
        ingress(
            {
                "from": [
                    {
                        "namespaceSelector": {"matchLabels": {"ns": "y"}},
                        "podSelector": {"matchLabels": {"pod": "a"}},
                    }
                ],
                "ports": [{"port": 80}],
            },
            podSelector={"matchLabels": {"pod": "b"}},
        )
    ),
}


def agree(nodes: Site, drawn: Scene) -> None:
    expected = Expected(drawn)
    nodes.enforce(table(drawn.cluster))
    assert differing(nodes, {one: expected.allowed(one) for one in questions(drawn)}) == []


@pytest.mark.parametrize("name", SCENES)
def test_packets_pass_as_the_reference_says(name: str, nodes: Site) -> None:
    agree(nodes, SCENES[name])


@settings(max_examples=8, deadline=None)
@given(drawn=scenes())
def test_packets_pass_as_the_reference_says_of_any_scene(drawn: Scene, built: Site) -> None:
    agree(built, drawn)


@pytest.mark.parametrize("side", [ingress, egress])
def test_a_revocation_cuts_the_open_connection_and_a_grant_mends_it(side: Any, nodes: Site) -> None:  # noqa: ANN401
    granted = side({"from" if side is ingress else "to": HERE})
    nodes.enforce(table(scene(granted).cluster))
    with conversation(nodes, A, B, 80) as open_one, conversation(nodes, C, C, 80) as own:
        assert open_one.says(b"one") == b"one"
        nodes.enforce(table(scene(side()).cluster))
        assert open_one.says(b"two") == b""
        assert own.says(b"itself") == b"itself"
        nodes.enforce(table(scene(granted).cluster))
        # As soon as TCP tries again.
        assert open_one.hears(5) == b"two"


def test_an_open_connection_that_stays_allowed_is_not_cut(nodes: Site) -> None:
    nodes.enforce(table(scene(ingress({"from": HERE})).cluster))
    with conversation(nodes, A, B, 80) as open_one:
        for number in range(10):
            other = pod("y", "new", 100 + number)
            changed = cluster_of([*PODS, other], SPACES, [ingress({"from": HERE}), egress()][:1])
            nodes.enforce(table(changed))
            assert open_one.says(b"%d" % number, 5) == b"%d" % number


def test_a_pod_that_is_not_known_yet_is_refused_all(nodes: Site) -> None:
    nodes.enforce(table(scene().cluster))
    # The node's own addresses, too.
    own = (node_address(1), "10.9.0.1")
    refused = [(STRANGER, other) for other in (B, OUTSIDE, *own)]
    refused += [(other, STRANGER) for other in (B, OUTSIDE, FAR)]
    wanted = dict.fromkeys(asked(*refused), False)
    wanted |= dict.fromkeys(asked(*((A, other) for other in own)), True)
    assert differing(nodes, wanted) == []
    known = cluster_of([*PODS, pod("y", "new", 200)], SPACES, [])
    nodes.enforce(table(known))
    assert differing(nodes, dict.fromkeys(asked(*refused[:-1]), True)) == []


def asked(*ends: tuple[str, str]) -> list[Question]:
    return [Question(*pair, 80, protocol) for pair in ends for protocol in PROTOCOLS]


def test_a_node_reaches_its_pods_and_they_it_alone(nodes: Site) -> None:
    own, other = map(node_address, (1, 2))
    here = [{**one, "status": {**one["status"], "hostIP": own}} for one in PODS]
    nodes.enforce(table(cluster_of(here, SPACES, [ingress(), egress()])))
    wanted = dict.fromkeys(asked((own, A), (A, own)), True)
    wanted |= dict.fromkeys(asked((other, A), (A, other)), False)
    assert differing(nodes, wanted) == []


def far_pods() -> list[dict[str, Any]]:
    made = (pod("y", "far", 0), pod("y", "beside", 0))
    return [
        {**one, "status": {"podIP": where, "hostIP": node_address(2), "phase": "Running"}}
        for one, where in zip(made, (FAR, NEAR_FAR), strict=True)
    ]


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("side", [ingress, egress])
def test_either_node_judges_both_sides(number: int, side: Any, nodes: Site) -> None:  # noqa: ANN401
    """One node that enforces is enough: the source's, or the destination's."""
    far = [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"pod": "far"}}}]
    rule = {"from" if side is ingress else "to": far, "ports": [{"port": 80}]}
    nodes.enforce(table(cluster_of([*PODS, *far_pods()], SPACES, [side(rule)])), number)
    pairs = [(o, A) if side is ingress else (A, o) for o in (FAR, NEAR_FAR)]
    wanted = {Question(*pair, port, "TCP"): False for pair in pairs for port in (80, 81)}
    allowed = next(iter(wanted))
    assert differing(nodes, wanted | {allowed: True}) == []


SERVICE = "10.8.0.1"


def serve(nodes: Site, target: str, port: int) -> None:
    """What kube-proxy makes of a Service: its address and port 8000 lead to a pod."""
    nodes.at[SERVICE] = nodes.at[target]
    nodes.enforce(
        "table ip services {\nchain pre {\ntype nat hook prerouting priority dstnat;\n"
        + "".join(
            f"ip daddr {SERVICE} {protocol} dport 8000 dnat to {target}:{port}\n"
            for protocol in ("tcp", "udp")
        )
        + "}\nchain post {\ntype nat hook postrouting priority srcnat;\n"
        f"ip saddr {target} ip daddr {target} masquerade\n}}\n}}\n"
    )


@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
@pytest.mark.parametrize("side", [ingress, egress])
def test_behind_a_service_the_pod_and_its_port_count(side: Any, protocol: str, nodes: Site) -> None:  # noqa: ANN401
    serve(nodes, B, 81)
    for port in (81, 80, 8000):
        rule = {
            "from" if side is ingress else "to": HERE,
            "ports": [{"port": port, "protocol": protocol}],
        }
        nodes.enforce(table(scene(side(rule)).cluster))
        assert differing(nodes, {Question(A, SERVICE, 8000, protocol): port == 81}) == []


def test_a_pod_reaches_itself_through_its_service(nodes: Site) -> None:
    serve(nodes, B, 81)
    nodes.enforce(table(scene(ingress(), egress()).cluster))
    assert differing(nodes, {Question(B, SERVICE, 8000, "TCP"): True}) == []
