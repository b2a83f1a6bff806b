"""The decision, against an oracle that reads the rules one after the other."""

from dataclasses import replace
from datetime import date, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.strategies import TODAY, policies
from tests.zt.small_policy import POLICY
from zt.decide import EMPTY_TABLE, Decision, Reason, Verdict, decide, decision_table
from zt.effective import effective, party_id
from zt.load import load_texts
from zt.model import Destination, Policy, Source

STRANGERS = (
    "spiffe://hanzo.ai/east/web/nobody",
    "spiffe://lux.network/east/web/api",
    "spiffe://hanzo.ai/*/*/*",
    "external:nobody",
    "",
)


def parties(policy: Policy) -> dict[str, tuple[int, ...]]:
    """Every declared party's ID and its ports."""
    found = {
        f"spiffe://{policy.mesh.trust_domain}/{item.cluster}/{item.namespace}/"
        f"{item.service_account or item.name}": tuple(port.port for port in item.ports)
        for item in policy.services
    }
    return found | {f"external:{item.name}": item.ports for item in policy.externals}


def names(side: Source | Destination, party: str) -> bool:
    """Whether a side of a rule names a party."""
    if side.external is not None:
        return party == f"external:{side.external}"
    pattern = str(side.spiffe).split("/")
    segments = party.split("/")
    return len(pattern) == len(segments) and all(
        mine in ("*", theirs) for mine, theirs in zip(pattern, segments, strict=True)
    )


def oracle(
    policy: Policy, today: date, call: tuple[str, str, int], known: dict[str, tuple[int, ...]]
) -> Decision:
    """The first rule in force that names both, where both and the port are declared."""
    source, destination, port = call
    if source not in known:
        return Decision(Verdict.DENY, "default", Reason.UNKNOWN_SOURCE)
    if destination not in known:
        return Decision(Verdict.DENY, "default", Reason.UNKNOWN_DESTINATION)
    if port not in known[destination]:
        return Decision(Verdict.DENY, "default", Reason.PORT_NOT_DECLARED)
    for access in sorted(policy.access, key=lambda item: item.name):
        for number, rule in enumerate(access.rules, 1):
            holds = rule.expires is None or today <= rule.expires
            if holds and source != destination and names(rule.source, source):
                for item in rule.to:
                    if port in item.ports and names(item, destination):
                        return Decision(Verdict.ALLOW, f"{access.name}/rule-{number}", Reason.RULE)
    return Decision(Verdict.DENY, "default", Reason.NO_RULE)


@settings(max_examples=500)
@given(policies(), st.integers(-2, 40))
def test_the_decision_is_that_of_the_first_rule_that_grants_it(policy: Policy, days: int) -> None:
    today = TODAY + timedelta(days)
    table, known = decision_table(policy, today), parties(policy)
    everybody = (*known, *STRANGERS)
    for source in everybody:
        for destination in everybody:
            for port in (*known.get(destination, (80,)), 1):
                expected = oracle(policy, today, (source, destination, port), known)
                assert decide(table, source, destination, port) == expected


@given(policies())
def test_what_is_allowed_is_what_the_back_ends_are_given(policy: Policy) -> None:
    found = effective(policy, TODAY)
    granted = {
        (
            party_id(grant.source, policy.mesh),
            party_id(grant.destination, policy.mesh),
            grant.port,
        ): grant.rule.name
        for item in found.services
        for grant in (
            *item.upstreams,
            *item.externals,
            *(grant for inbound in item.inbound for grant in inbound.externals),
        )
    }
    table = decision_table(policy, TODAY)
    allowed = {
        (source, destination, port): decision.rule
        for source in parties(policy)
        for destination, ports in parties(policy).items()
        for port in ports
        if (decision := decide(table, source, destination, port)).verdict is Verdict.ALLOW
    }
    assert granted == allowed


@given(policies())
def test_the_rollout_decides_nothing(policy: Policy) -> None:
    table = decision_table(policy, TODAY)
    other = decision_table(replace(policy, rollout=None), TODAY)
    assert replace(other, phases=table.phases) == table


@given(policies())
def test_without_its_rules_everything_is_denied(policy: Policy) -> None:
    table = decision_table(replace(policy, access=()), TODAY)
    for source in parties(policy):
        for destination, ports in parties(policy).items():
            for port in ports:
                decision = decide(table, source, destination, port)
                assert decision == Decision(Verdict.DENY, "default", Reason.NO_RULE)


def test_with_no_table_at_all_everything_is_denied() -> None:
    decision = decide(EMPTY_TABLE, "spiffe://a/b/c/d", "spiffe://a/b/c/e", 80)
    assert decision == Decision(Verdict.DENY, "default", Reason.UNKNOWN_SOURCE)


def test_a_rule_holds_on_its_last_day_and_not_on_the_next() -> None:
    text = POLICY.replace(
        "{external: internet}\n", "{external: internet}\n      expires: 2026-11-23\n"
    )
    policy = load_texts([("policy.yaml", text.encode())]).policy
    assert policy
    call = ("external:internet", "spiffe://hanzo.ai/east/hanzo/iam", 8000)
    last = date(2026, 11, 23)
    assert decide(decision_table(policy, last), *call).rule == "core/rule-4"
    assert decide(decision_table(policy, last + timedelta(1)), *call).verdict is Verdict.DENY
