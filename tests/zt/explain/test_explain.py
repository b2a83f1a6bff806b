"""Explanations against the decision, and sentences of the real policy."""

from dataclasses import replace
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.strategies import TODAY, policies
from zt.decide import DecisionTable, Reason, decide, decision_table
from zt.effective import Effective, effective
from zt.explain import Explanation, Stance, explain
from zt.graph import parties
from zt.load import load_policy
from zt.model import Phase, Policy, Service, ServicePhase

REAL = load_policy("policies")
HANZO = "spiffe://hanzo.ai/hanzo-k8s/hanzo"
LUX = "spiffe://hanzo.ai/lux-k8s/lux"
PORTS = (80, 443, 5432, 6379, 7000, 8054, 8080, 9090, 9586)


def resolve(policy: Policy) -> tuple[Effective, DecisionTable]:
    return effective(policy, TODAY), decision_table(policy, TODAY)


def tell(source: str, destination: str, port: int, policy: Policy = REAL) -> Explanation:
    return explain(*resolve(policy), source, destination, port)


def stances(explanation: Explanation) -> dict[str, Stance]:
    return {statement.plane: statement.stance for statement in explanation.planes}


@st.composite
def calls(draw: st.DrawFn) -> tuple[Policy, str, str, int]:
    policy = draw(policies())
    names = [*parties(effective(policy, TODAY)), "spiffe://hanzo.ai/east/web/nobody"]
    source, destination = draw(st.sampled_from(names)), draw(st.sampled_from(names))
    return policy, source, destination, draw(st.sampled_from(PORTS))


@st.composite
def granted_calls(draw: st.DrawFn) -> tuple[Policy, str, str, int]:
    policy = draw(policies().filter(lambda policy: any(access.rules for access in policy.access)))
    table = decision_table(policy, TODAY)
    keys = [
        (source, destination, port)
        for source in table.ports
        for destination, ports in table.ports.items()
        for port in sorted(ports)
        if decide(table, source, destination, port).reason is Reason.RULE
    ]
    return policy, *draw(st.sampled_from(keys or [("external:nobody", "external:nobody", 1)]))


@settings(max_examples=100)
@given(st.one_of(calls(), granted_calls()))
def test_the_verdict_is_that_of_decide(call: tuple[Policy, str, str, int]) -> None:
    policy, ends = call[0], call[1:]
    resolved, table = resolve(policy)

    found = explain(resolved, table, *ends)

    assert found.decision == decide(table, *ends)
    assert found.allowed is (found.rule is not None)
    assert found.rule is None or found.rule.name == found.decision.rule
    assert bool(found.hints) is not found.allowed


@settings(max_examples=100)
@given(granted_calls())
def test_no_plane_refuses_what_is_granted_but_who_says_not_where_it_calls_from(
    call: tuple[Policy, str, str, int],
) -> None:
    policy, ends = call[0], call[1:]
    resolved, table = resolve(policy)
    found = explain(resolved, table, *ends)
    source = parties(effective(policy, TODAY)).get(found.source)

    refusing = [statement.plane for statement in found.planes if statement.stance is Stance.REFUSES]

    nowhere = isinstance(source, Service) and source.outside and not source.outside.cidrs
    if found.allowed:
        assert refusing == (["tunnel"] if nowhere else [])


@settings(max_examples=100)
@given(calls())
def test_an_enforced_pod_refuses_what_is_denied(call: tuple[Policy, str, str, int]) -> None:
    policy, ends = call[0], call[1:]
    resolved, table = resolve(policy)
    found = explain(resolved, table, *ends)
    destination = parties(effective(policy, TODAY)).get(found.destination)

    pod = isinstance(destination, Service) and destination.outside is None
    if pod and found.phase is Phase.ENFORCE and not found.allowed:
        refused = Stance.REFUSES in stances(found).values()
        by_address = any(statement.weaker for statement in found.planes)
        assert refused or by_address


def test_a_granted_connection_passes_every_plane() -> None:
    found = tell(f"{HANZO}/chat", f"{HANZO}/gateway", 4000)

    assert set(stances(found).values()) == {Stance.ALLOWS}
    assert found.decision.rule == "hanzo-core-policy/rule-3"
    assert found.rule is not None
    assert str(found.rule.rule.where) == "policies/access/hanzo-core-policy.yaml:26:7"


def test_a_denied_connection_is_refused_by_every_plane_that_looks_at_both_ends() -> None:
    found = tell(f"{HANZO}/chat", f"{HANZO}/postgres", 5432)

    refusing = {plane for plane, stance in stances(found).items() if stance is Stance.REFUSES}
    assert refusing == {
        "handshake",
        "decision",
        "sidecar RBAC",
        "NetworkPolicy egress",
        "NetworkPolicy ingress",
    }


def test_pods_of_one_service_reach_each_other_without_a_decision() -> None:
    services = tuple(
        replace(one, peer_ports=(7000,)) if one.name == "postgres" else one for one in REAL.services
    )
    policy = replace(REAL, services=services)
    found = tell(f"{HANZO}/postgres", f"{HANZO}/postgres", 7000, policy)

    assert not found.allowed
    said = {statement.plane: statement for statement in found.planes}
    for plane in ("NetworkPolicy egress", "NetworkPolicy ingress"):
        assert said[plane].stance is Stance.ALLOWS
        assert "no identity is proved, nothing is recorded" in said[plane].weaker
    assert {said[plane].stance for plane in ("handshake", "decision", "sidecar RBAC")} == {
        Stance.ABSENT
    }
    assert "see peerPorts" in found.hints[0].message

    other = tell(f"{HANZO}/iam", f"{HANZO}/postgres", 7000, policy)
    assert stances(other)["NetworkPolicy ingress"] is Stance.REFUSES


def test_the_hint_is_yaml_for_the_rule_of_the_source() -> None:
    (hint,) = tell(f"{HANZO}/chat", f"{HANZO}/postgres", 5432).hints

    assert "hanzo-core-policy/rule-3" in hint.message
    assert hint.where.file == "policies/access/hanzo-core-policy.yaml"
    assert hint.snippet == f'- spiffe: "{HANZO}/postgres"\n  ports: [5432]'


def test_the_hint_for_who_has_no_rule_is_a_rule() -> None:
    (hint,) = tell(f"{HANZO}/search", "external:model-provider", 443).hints

    assert hint.snippet.splitlines() == [
        "- from:",
        f'    spiffe: "{HANZO}/search"',
        "  to:",
        "    - external: model-provider",
        "      ports: [443]",
    ]


@pytest.mark.parametrize(
    ("source", "destination", "port", "message"),
    [
        (
            f"{HANZO}/chatt",
            f"{HANZO}/gateway",
            4000,
            f"no Service declares {HANZO}/chatt (did you mean '{HANZO}/chat'?)",
        ),
        (
            f"{HANZO}/gateway",
            "external:model-providers",
            443,
            "no ExternalService declares external:model-providers",
        ),
        (
            f"{HANZO}/chat",
            f"{HANZO}/gateway",
            4001,
            f"{HANZO}/gateway declares 4000, not 4001",
        ),
        (
            f"{HANZO}/chat",
            f"{HANZO}/chat",
            3000,
            "a service reaches itself on loopback, which the mesh does not touch",
        ),
    ],
)
def test_the_hint_says_what_is_wrong(
    source: str, destination: str, port: int, message: str
) -> None:
    assert tell(source, destination, port).hints[0].message.startswith(message)


def test_an_expired_rule_is_named() -> None:
    core = next(access for access in REAL.access if access.name == "hanzo-core-policy")
    chat = replace(core.rules[2], expires=date(2026, 1, 31))
    expired = replace(core, rules=(*core.rules[:2], chat))
    others = tuple(access for access in REAL.access if access is not core)

    found = tell(
        f"{HANZO}/chat", f"{HANZO}/gateway", 4000, replace(REAL, access=(*others, expired))
    )

    assert found.hints[0].message == "hanzo-core-policy/rule-3 granted it until 2026-01-31"


def test_another_port_of_the_same_destination_is_added_to_its_entry() -> None:
    gateway = next(one for one in REAL.services if one.name == "gateway")
    more = replace(gateway, ports=(*gateway.ports, replace(gateway.ports[0], port=4001)))
    services = tuple(more if one is gateway else one for one in REAL.services)

    (hint,) = tell(
        f"{HANZO}/chat", f"{HANZO}/gateway", 4001, replace(REAL, services=services)
    ).hints

    assert hint.snippet == "ports: [4000, 4001]"
    assert hint.where.file == "policies/access/hanzo-core-policy.yaml"


def test_across_clusters_the_tunnel_speaks_and_the_weaker_plane_says_so() -> None:
    found = tell(f"{LUX}/validator", f"{HANZO}/gateway", 4000)

    by_plane = {statement.plane: statement for statement in found.planes}
    assert by_plane["tunnel"].stance is Stance.ALLOWS
    assert "4000.gateway.hanzo.hanzo-k8s" in by_plane["tunnel"].why
    assert by_plane["NetworkPolicy ingress"].weaker


def test_who_is_denied_across_clusters_may_still_reach_the_gateway() -> None:
    found = tell(f"{LUX}/zt-policy-engine", f"{HANZO}/gateway", 4000)

    by_plane = {statement.plane: statement for statement in found.planes}
    assert by_plane["tunnel"].stance is Stance.OPEN
    assert by_plane["tunnel"].weaker
    assert by_plane["handshake"].stance is Stance.REFUSES


def test_host_names_are_weaker_than_networks() -> None:
    found = tell(f"{HANZO}/gateway", "external:model-provider", 443)

    egress = next(one for one in found.planes if one.plane == "NetworkPolicy egress")
    assert egress.stance is Stance.ALLOWS
    assert "api.openai.com" in egress.weaker


def test_an_observed_service_refuses_nobody() -> None:
    rollout = REAL.rollout
    assert rollout is not None
    observed = replace(rollout, services=(ServicePhase("postgres", Phase.OBSERVE),))

    found = tell(f"{HANZO}/chat", f"{HANZO}/postgres", 5432, replace(REAL, rollout=observed))

    assert found.phase is Phase.OBSERVE
    assert not found.allowed
    assert Stance.REFUSES not in stances(found).values()
