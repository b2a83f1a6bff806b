"""What every back end starts from."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import TODAY, policies
from tests.zt.small_policy import POLICY
from zt.effective import Effective, effective, is_expired, named_rules, phase_of
from zt.load import load_texts
from zt.model import (
    ExternalService,
    Phase,
    Policy,
    Rollout,
    RolloutPhase,
    Service,
    ServicePhase,
)


def small() -> Policy:
    policy = load_texts([("policy.yaml", POLICY.encode())]).policy
    assert policy
    return policy


def edges(found: Effective) -> list[tuple[str, str, int, str]]:
    """Every grant as its two services, port and rule."""
    return [
        (
            f"{grant.source.cluster}/{grant.source.name}",
            f"{grant.destination.cluster}/{grant.destination.name}",
            grant.port,
            grant.rule.name,
        )
        for item in found.services
        for grant in item.upstreams
        if isinstance(grant.source, Service) and isinstance(grant.destination, Service)
    ]


def test_wildcards_name_declared_services_and_nobody_else() -> None:
    assert edges(effective(small(), TODAY)) == [
        ("ci/deploy", "east/zt-policy-engine", 8054, "core/rule-3"),
        ("ci/deploy", "west/zt-policy-engine", 8054, "core/rule-3"),
        ("east/iam", "east/postgres", 5432, "core/rule-1"),
        ("east/iam", "east/queue", 4222, "core/rule-1"),
        ("west/validator", "east/iam", 8000, "core/rule-2"),
    ]


def test_what_is_outside_stands_beside_the_services() -> None:
    iam = effective(small(), TODAY).find("east", "iam")
    assert iam
    assert [grant.destination.name for grant in iam.externals] == ["models"]
    (inbound,) = iam.inbound
    assert [grant.source.name for grant in inbound.clients] == ["validator"]
    assert [grant.source.name for grant in inbound.externals] == ["internet"]


@given(policies())
def test_every_declared_port_is_there_once_though_nobody_may_call_it(policy: Policy) -> None:
    for item in effective(policy, TODAY).services:
        declared = sorted(port.port for port in item.service.ports)
        assert [inbound.port.port for inbound in item.inbound] == declared


@given(policies())
def test_each_grant_is_seen_from_both_of_its_ends(policy: Policy) -> None:
    found = effective(policy, TODAY)
    out = [grant for item in found.services for grant in item.upstreams]
    into = [
        grant for item in found.services for inbound in item.inbound for grant in inbound.clients
    ]
    assert sorted(map(id, out)) == sorted(map(id, into))


@given(policies())
def test_only_rules_in_force_grant_anything(policy: Policy) -> None:
    found = effective(policy, TODAY)
    assert [named for named in named_rules(policy) if not is_expired(named.rule, TODAY)] == list(
        found.rules
    )
    used = {grant.rule.name for item in found.services for grant in item.upstreams}
    assert used <= {named.name for named in found.rules}


@given(policies())
def test_a_service_never_calls_itself(policy: Policy) -> None:
    for item in effective(policy, TODAY).services:
        assert all(grant.destination is not item.service for grant in item.upstreams)


@given(policies())
def test_services_are_found_by_cluster_and_name(policy: Policy) -> None:
    found = effective(policy, TODAY)
    places = {service.cluster for service in policy.services}
    assert [item for place in sorted(places) for item in found.in_cluster(place)] == list(
        found.services
    )
    for item in found.services:
        assert found.find(item.service.cluster, item.service.name) is item
    assert found.find("nowhere", "nobody") is None
    assert found.in_cluster("nowhere") == ()


@given(policies(), st.integers(1, 1000))
def test_as_days_go_by_grants_only_end(policy: Policy, days: int) -> None:
    later = {edge[:3] for edge in edges(effective(policy, TODAY + timedelta(days)))}
    assert later <= {edge[:3] for edge in edges(effective(policy, TODAY))}


STEPS = (
    RolloutPhase("observe", Phase.OBSERVE, Phase.OBSERVE),
    RolloutPhase("half", Phase.CANARY, Phase.ENFORCE),
)
EXCEPTION = ServicePhase("iam", Phase.OBSERVE)


@pytest.mark.parametrize(
    ("rollout", "critical", "phase"),
    [
        (None, True, Phase.ENFORCE),
        (Rollout("r", STEPS, "observe"), True, Phase.OBSERVE),
        (Rollout("r", STEPS, "half"), True, Phase.CANARY),
        (Rollout("r", STEPS, "half"), False, Phase.ENFORCE),
        (Rollout("r", STEPS, "half", (EXCEPTION,)), True, Phase.OBSERVE),
        (Rollout("r", STEPS, "half", (replace(EXCEPTION, service="x"),)), True, Phase.CANARY),
        # Where the step in force is unknown, which is an error, nothing is left open.
        (Rollout("r", STEPS, "hlaf"), True, Phase.ENFORCE),
    ],
)
def test_the_phase_of_a_service(rollout: Rollout | None, *, critical: bool, phase: Phase) -> None:
    policy = replace(small(), rollout=rollout)
    service = Service("iam", "east", "hanzo", critical=critical)
    assert phase_of(policy, service) is phase


def test_an_external_has_no_id_that_a_pattern_could_name() -> None:
    policy = small()
    names = {external.name for external in policy.externals}
    assert names == {"internet", "models"}
    for item in effective(policy, TODAY).services:
        for grant in item.upstreams:
            assert not isinstance(grant.destination, ExternalService)
