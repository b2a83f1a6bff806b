"""What is wrong with a policy that could be read."""

import time
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import TODAY, policies
from tests.zt.small_policy import POLICY, changed, findings, table
from tests.zt.written import as_yaml, written
from zt.check import check
from zt.effective import NamedRule, grants, is_expired, named_rules, rules_in_force
from zt.load import load_policy, load_texts
from zt.model import (
    Cluster,
    Destination,
    Mesh,
    Policy,
    Port,
    Rule,
    Service,
    ServiceAccessPolicy,
    Source,
)
from zt.position import Severity
from zt.spiffe import SpiffePattern
from zt.values import parse_network

ROOT = Path(__file__).parents[2]
BAD_POLICY = table("bad_policy.yaml")


def test_the_real_policy_has_no_findings() -> None:
    assert check(load_policy(ROOT / "policies"), TODAY) == ()


def test_the_small_policy_has_no_findings() -> None:
    assert findings(POLICY) == []


@pytest.mark.parametrize("case", BAD_POLICY)
def test_what_is_wrong_is_told_where_it_stands_with_all_that_follows(case: str) -> None:
    text, expected = BAD_POLICY[case]
    assert findings(text) == expected


def test_every_finding_about_a_rule_names_it_and_stands_in_it() -> None:
    for text, _ in BAD_POLICY.values():
        policy = load_texts([("policy.yaml", text.encode())]).policy
        assert policy
        lines = {named.name: named.rule.where.line for named in named_rules(policy)}
        for operators in policy.operators:
            for number, rule in enumerate(operators.rules, 1):
                lines[f"{operators.name}/rule-{number}"] = rule.where.line
        for finding in check(policy, TODAY):
            if finding.rule:
                above = [line for line in lines.values() if line <= finding.where.line]
                assert lines[finding.rule] == max(above)


@given(policies())
def test_a_valid_policy_has_no_errors(policy: Policy) -> None:
    found = check(policy, TODAY)
    assert [str(item) for item in found if item.severity is Severity.ERROR] == []


@given(policies(), st.dates(date(2020, 1, 1), date(2040, 1, 1)))
def test_only_warnings_depend_on_the_day(policy: Policy, today: date) -> None:
    assert errors(policy, today) == errors(policy, TODAY)


@pytest.mark.parametrize("case", BAD_POLICY)
def test_what_does_not_compile_today_never_did(case: str) -> None:
    policy = load_texts([("policy.yaml", BAD_POLICY[case][0].encode())]).policy
    assert policy
    assert errors(policy, date(2020, 1, 1)) == errors(policy, date(2040, 1, 1))


def errors(policy: Policy, today: date) -> list[str]:
    return [str(item) for item in check(policy, today) if item.severity is Severity.ERROR]


@given(policies())
def test_findings_are_sorted_and_given_once(policy: Policy) -> None:
    read = load_texts([("policy.yaml", as_yaml(written(policy)))]).policy
    assert read
    found = check(read, TODAY)
    assert len(set(found)) == len(found)
    places = [(item.where.line, item.where.column, item.code) for item in found]
    assert places == sorted(places)


@given(policies())
def test_a_superfluous_rule_can_be_taken_away(policy: Policy) -> None:
    """Without any one such rule the same is granted, on this day and on every later one."""
    codes = ("duplicate-rule", "shadowed-rule")
    superfluous = {item.rule for item in check(policy, TODAY) if item.code in codes}
    for name in superfluous:
        without = tuple(rule for rule in named_rules(policy) if rule.name != name)
        for later in range(-1, 40, 8):
            today = TODAY + timedelta(max(later, 0))
            assert edges(policy, without, today) == edges(policy, named_rules(policy), today)


def edges(policy: Policy, rules: tuple[NamedRule, ...], today: date) -> set[tuple[int, int, int]]:
    """What rules grant on a day; parties by their identity, as they are slow to compare."""
    in_force = tuple(named for named in rules if not is_expired(named.rule, today))
    return {
        (id(grant.source), id(grant.destination), grant.port) for grant in grants(policy, in_force)
    }


@given(policies())
def test_a_rule_that_grants_nothing_new_is_found(policy: Policy) -> None:
    """The other way: whatever adds no grant to the rules above, which all hold, is reported."""
    rules = tuple(
        NamedRule(named.name, replace(named.rule, expires=None)) for named in named_rules(policy)
    )
    access = tuple(
        replace(item, rules=tuple(replace(rule, expires=None) for rule in item.rules))
        for item in policy.access
    )
    expected = {
        named.name
        for index, named in enumerate(rules)
        if edges(policy, rules[:index], TODAY) == edges(policy, rules[: index + 1], TODAY)
    }
    found = check(replace(policy, access=access), TODAY)
    codes = ("duplicate-rule", "shadowed-rule", "self-call")
    assert {item.rule for item in found if item.code in codes} >= expected
    assert {item.rule for item in found if item.code in codes[:2]} <= expected


@given(policies())
def test_an_idle_service_is_one_that_no_grant_names(policy: Policy) -> None:
    names = {"zt-policy-engine", "wg-gateway", "prometheus"}
    read = load_texts([("policy.yaml", as_yaml(written(policy)))]).policy
    assert read
    used = {
        party
        for grant in grants(read, rules_in_force(read, TODAY))
        for party in (grant.source, grant.destination)
    }
    expected = sum(service not in used and service.name not in names for service in policy.services)
    found = [item for item in check(read, TODAY) if item.code == "idle-service"]
    assert len(found) == expected


def test_one_mistake_is_told_at_every_rule_that_it_breaks() -> None:
    text = changed("trustDomain: hanzo.ai", "trustDomain: lux.network")
    broken = [item for item in findings(text) if "[foreign-trust-domain]" in item]
    assert len(broken) == POLICY.count("spiffe://")


def large(services: int, rules: int, *, known: bool = True) -> Policy:
    """A policy of one cluster; with ``known=False`` no rule names anybody."""
    pods, ips = parse_network("10.0.0.0/16"), parse_network("10.1.0.0/16")
    everybody = tuple(
        Service(f"service-{number}", "east", "web", ports=(Port(8080),))
        for number in range(services)
    )
    names = [service.name if known else f"{service.name}x" for service in everybody]

    def pattern(number: int) -> SpiffePattern:
        return SpiffePattern("hanzo.ai", "east", "web", names[number % services])

    own = (Service("zt-policy-engine", "east", "ops"),)
    grants = tuple(
        Rule(
            Source(pattern(number)),
            (Destination((8080,), pattern(number + 1 + number // services)),),
        )
        for number in range(rules)
    )
    return Policy(
        Mesh("mesh", "hanzo.ai", (Cluster("east", pods, ips),)),
        services=everybody + own,
        access=(ServiceAccessPolicy("large", grants),),
    )


def seconds(policy: Policy) -> float:
    start = time.process_time()
    check(policy, TODAY)
    return time.process_time() - start


def test_ten_thousand_rules_are_checked_within_seconds() -> None:
    policy = large(1000, 10_000)
    assert check(policy, TODAY) == ()
    assert min(seconds(policy) for _ in range(3)) < 2  # a quarter, with room for a busy machine


def test_the_cost_of_a_rule_does_not_grow_with_their_number() -> None:
    small, big = large(1000, 3_000), large(1000, 30_000)
    few = min(seconds(small) for _ in range(3))
    many = min(seconds(big) for _ in range(2))
    assert many < 10 * few * 2


def test_ten_thousand_rules_that_name_nobody_are_told_within_seconds() -> None:
    policy = large(1000, 10_000, known=False)
    start = time.process_time()
    found = check(policy, TODAY)
    assert time.process_time() - start < 10  # 1.5, with room for a busy machine
    assert sum(item.code == "unknown-service" for item in found) > 2_000
