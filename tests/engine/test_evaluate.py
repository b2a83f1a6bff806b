import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.builder import snapshot_of
from engine.evaluate import Answer, Objection, Request, evaluate, without_audit
from engine.locate import Locations
from engine.policy.table import empty_snapshot
from tests.engine.samples import API, CAUTIOUS, DB, LOCATIONS, NEW, WEB, in_force
from tests.strategies import TODAY, policies
from zt.decide import Verdict, decide, decision_table
from zt.model import Phase, Policy

ALLOW, DENY = Verdict.ALLOW, Verdict.DENY


def ask(request: Request, locations: Locations = LOCATIONS) -> Answer:
    return evaluate(in_force(), locations, request)


def test_an_enforced_destination_takes_what_a_rule_grants() -> None:
    answer = ask(Request(WEB, DB, 5432))
    assert (answer.verdict, answer.would_be, answer.rule) == (ALLOW, ALLOW, "core/rule-1")
    assert (answer.phase, answer.reason) == (Phase.ENFORCE, "rule")


def test_an_enforced_destination_refuses_everything_else() -> None:
    answer = ask(Request(CAUTIOUS, DB, 5432))
    assert (answer.verdict, answer.rule, answer.reason) == (DENY, "default", "no_rule")


def test_an_observed_destination_takes_all_and_says_what_it_would_refuse() -> None:
    answer = ask(Request(API, NEW, 5432))
    assert (answer.verdict, answer.would_be, answer.phase) == (ALLOW, DENY, Phase.OBSERVE)
    assert answer.reason == "no_rule"


@pytest.mark.parametrize(
    ("replica", "verdict"), [("cautious-1", DENY), ("cautious-2", ALLOW), (None, ALLOW)]
)
def test_a_canary_enforces_on_its_first_pod_alone(replica: str | None, verdict: Verdict) -> None:
    answer = ask(Request(API, CAUTIOUS, 5432, replica=replica))
    assert (answer.verdict, answer.would_be, answer.phase) == (verdict, DENY, Phase.CANARY)


def test_a_canary_whose_pods_nobody_knows_enforces_nowhere() -> None:
    answer = ask(Request(API, CAUTIOUS, 5432, replica="cautious-1"), Locations())
    assert answer.verdict is ALLOW


def test_an_unknown_destination_is_enforced() -> None:
    for destination in (None, "spiffe://hanzo.ai/east/shop/nobody", "external:moon"):
        assert ask(Request(WEB, destination, 5432)).verdict is DENY


def test_a_call_to_the_outside_is_in_the_phase_of_its_source() -> None:
    assert ask(Request(NEW, "external:office", 443)).phase is Phase.OBSERVE
    assert ask(Request(WEB, "external:office", 443)).phase is Phase.ENFORCE


def test_an_objection_denies_what_a_rule_grants_and_still_names_the_rule() -> None:
    answer = ask(Request(WEB, DB, 5432, objection=Objection.PLAINTEXT))
    assert (answer.verdict, answer.rule, answer.reason) == (DENY, "core/rule-1", "plaintext")


def test_without_any_policy_everything_is_denied() -> None:
    answer = evaluate(empty_snapshot(), LOCATIONS, Request(WEB, NEW, 5432))
    assert (answer.verdict, answer.reason) == (DENY, "no_policy")


def test_what_cannot_be_recorded_is_denied_where_enforced_and_passes_where_observed() -> None:
    enforced = without_audit(ask(Request(WEB, DB, 5432)))
    assert (enforced.verdict, enforced.reason) == (DENY, "audit_unavailable")
    observed = without_audit(ask(Request(WEB, NEW, 5432)))
    assert (observed.verdict, observed.reason) == (ALLOW, "audit_unavailable")


@given(policies(), st.data())
def test_no_answer_is_wider_than_the_decision_unless_the_phase_says_so(
    drawn: Policy, data: st.DataObject
) -> None:
    current, table = snapshot_of(drawn, TODAY), decision_table(drawn, TODAY)
    parties = [*table.selectors, "spiffe://hanzo.ai/nobody/at/all"]
    source, destination = data.draw(st.sampled_from(parties)), data.draw(st.sampled_from(parties))
    port = data.draw(st.sampled_from([*table.ports.get(destination, ()), 1]))
    decision = decide(table, source, destination, port)
    answer = evaluate(current, Locations(), Request(source, destination, port))
    assert (answer.would_be, answer.rule) == (decision.verdict, decision.rule)
    if answer.phase is Phase.ENFORCE:
        assert answer.verdict == decision.verdict
    else:
        assert answer.verdict is ALLOW
