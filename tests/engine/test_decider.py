from engine.evaluate import Objection, Request
from engine.metrics.families import APPEND_FAILURES, DECISIONS, LOST
from tests.engine.samples import API, DB, NEW, WEB, Desk
from zt.decide import Verdict


def counted(desk: Desk) -> dict[tuple[str, ...], int]:
    return {series: value for series, value in desk.metrics.reading().series if value}


def test_a_decision_is_recorded_with_all_that_is_known(desk: Desk) -> None:
    request = Request(WEB, DB, 5432, pod="web-1", node="n1", on_behalf_of="agent:a7")
    decided = desk.decider.decide(request, "evaluator")
    ((outcome, time_us, latency_us),) = desk.spool.appended
    assert decided.sequence == 1
    assert decided.id is not None
    assert (outcome.verdict, outcome.would_be, outcome.rule) == ("ALLOW", "ALLOW", "core/rule-1")
    assert (outcome.source_id, outcome.source_pod, outcome.source_node) == (WEB, "web-1", "n1")
    assert (outcome.destination_id, outcome.destination_port) == (DB, 5432)
    assert (outcome.layer, outcome.phase, outcome.reason) == ("evaluator", "enforce", "rule")
    assert outcome.revision == desk.snapshot.revision
    assert outcome.on_behalf_of == "agent:a7"
    assert time_us > 1_700_000_000_000_000
    assert 0 <= latency_us < 1_000_000


def test_without_a_record_an_enforced_destination_refuses(desk: Desk) -> None:
    desk.spool.available = False
    decided = desk.decider.decide(Request(WEB, DB, 5432), "evaluator")
    assert decided.answer.verdict is Verdict.DENY
    assert decided.answer.reason is Objection.AUDIT_UNAVAILABLE
    assert decided.id is None
    assert counted(desk) == {(DECISIONS, "deny", WEB, DB): 1, (APPEND_FAILURES,): 1}


def test_without_a_record_an_observed_destination_goes_on_and_the_loss_is_counted(
    desk: Desk,
) -> None:
    desk.spool.available = False
    decided = desk.decider.decide(Request(API, NEW, 5432), "evaluator")
    assert decided.answer.verdict is Verdict.ALLOW
    assert counted(desk)[LOST,] == 1


def test_identities_that_no_policy_declares_make_no_series(desk: Desk) -> None:
    for number in range(100):
        request = Request(f"spiffe://hanzo.ai/east/shop/made-up-{number}", DB, 5432)
        desk.decider.decide(request, "evaluator")
    assert counted(desk) == {(DECISIONS, "deny", "unknown", DB): 100}


def test_what_a_peer_sends_is_kept_within_bounds_in_the_trail(desk: Desk) -> None:
    desk.decider.decide(Request("spiffe://a\0b\n\ud800" + "x" * 9999, None, 0), "evaluator")
    (outcome,) = desk.outcomes
    assert outcome.source_id is not None
    assert outcome.source_id.startswith("spiffe://a\ufffdb\ufffd\ufffdx")
    assert len(outcome.source_id) == 512
    assert outcome.destination_id == "unknown"


def test_what_another_layer_refused_is_recorded_as_it_says(desk: Desk) -> None:
    request = Request(WEB, DB, 5432)
    answer = desk.decider.prepare(request, "x").answer
    assert desk.decider.record(request, answer._replace(verdict=Verdict.DENY), "rbac")
    assert [(outcome.verdict, outcome.layer) for outcome in desk.outcomes] == [("DENY", "rbac")]
    desk.spool.available = False
    assert not desk.decider.record(request, answer, "rbac")
