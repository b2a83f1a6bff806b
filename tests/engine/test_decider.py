import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.audit.outcome import encode
from engine.decider import outcome_of, record_of
from engine.evaluate import Answer, Objection, Request
from engine.locate import Surroundings
from engine.metrics.families import APPEND_FAILURES, DECISIONS, LOST
from engine.policy.layout import Facts
from engine.policy.layout import encode as encode_table
from engine.policy.table import Table
from tests.engine.samples import API, DB, NEW, WEB, Desk
from zt.decide import DecisionTable, Reason, Verdict
from zt.model import Phase


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


@given(st.data())
def test_a_record_is_encoded_as_its_columns_are(data: st.DataObject) -> None:
    """Whether it is put together or written as JSON."""
    drawn = data.draw
    context = st.none() | st.text(max_size=3)
    source, destination = (drawn(st.sampled_from([WEB, DB, "spiffe://x"])) for _ in "sd")
    request = Request(source, destination, drawn(st.integers(1, 65535)), drawn(context))
    request = request._replace(node=drawn(context), on_behalf_of=drawn(context))
    known = st.sampled_from([True, False])
    answer = Answer(
        drawn(st.sampled_from(Verdict)),
        drawn(st.sampled_from(Verdict)),
        drawn(st.sampled_from(Phase)),
        drawn(known),
        drawn(st.sampled_from(["default", "core/rule-1", "\u00e9\u4e16/rule-2"])),
        drawn(st.sampled_from([*Reason, *Objection])),
        "0123456789abcdef",
        source if drawn(known) else None,
        destination if drawn(known) else None,
    )
    expected = encode(outcome_of(request, answer, "api"))
    for plain in (True, False):
        assert record_of(request, answer, "api", plain=plain) == expected


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb"])
def test_a_table_with_a_name_that_json_escapes_is_not_plain(name: str) -> None:
    facts = Facts("r1", Surroundings(), {})
    names = DecisionTable({WEB: (WEB,)}, {}, {}, (name,), {})
    assert not Table(encode_table(names, facts)).plain
    names = DecisionTable({name: (name,)}, {}, {}, ("fine",), {})
    assert not Table(encode_table(names, facts)).plain
    names = DecisionTable({WEB: (WEB,)}, {}, {}, ("fine \u00e9\x7f",), {})
    assert Table(encode_table(names, facts)).plain
