import pytest

from engine.evaluate import Request
from tests.engine.samples import API, DB, NEW, WEB, Desk
from zt.decide import Verdict

pytestmark = pytest.mark.anyio


async def test_a_decision_is_recorded_with_all_that_is_known(desk: Desk) -> None:
    request = Request(WEB, DB, 5432, pod="web-1", node="n1")
    decided = await desk.decider.decide(request, "evaluator")
    (record,) = desk.trail.records
    assert record.id == decided.id
    assert (record.verdict, record.would_be, record.rule) == ("ALLOW", "ALLOW", "core/rule-1")
    assert (record.source_id, record.source_pod, record.source_node) == (WEB, "web-1", "n1")
    assert (record.destination_id, record.destination_port) == (DB, 5432)
    assert (record.layer, record.phase, record.reason) == ("evaluator", "enforce", "rule")
    assert record.revision == desk.snapshot.revision
    assert record.time.tzinfo is not None
    assert record.latency_us >= 0


async def test_without_a_trail_an_enforced_destination_refuses(desk: Desk) -> None:
    desk.trail.available = False
    decided = await desk.decider.decide(Request(WEB, DB, 5432), "evaluator")
    assert decided.answer.verdict is Verdict.DENY
    assert decided.answer.reason == "audit_unavailable"
    assert f'zt_decisions_total{{decision="deny",source="{WEB}",dest="{DB}"}} 1' in desk.scrape()
    assert "zt_audit_failures_total 1" in desk.scrape()


async def test_without_a_trail_an_observed_destination_goes_on(desk: Desk) -> None:
    desk.trail.available = False
    decided = await desk.decider.decide(Request(API, NEW, 5432), "evaluator")
    assert decided.answer.verdict is Verdict.ALLOW


async def test_identities_that_no_policy_declares_make_no_series(desk: Desk) -> None:
    for number in range(100):
        request = Request(f"spiffe://hanzo.ai/east/shop/made-up-{number}", DB, 5432)
        await desk.decider.decide(request, "evaluator")
    assert (
        f'zt_decisions_total{{decision="deny",source="unknown",dest="{DB}"}} 100' in desk.scrape()
    )
    assert "made-up" not in desk.scrape()


async def test_what_a_peer_sends_is_kept_within_bounds_in_the_trail(desk: Desk) -> None:
    await desk.decider.decide(Request("spiffe://a\0b\n\ud800" + "x" * 9999, None, 0), "evaluator")
    (record,) = desk.trail.records
    assert record.source_id is not None
    assert record.source_id.startswith("spiffe://a\ufffdb\ufffd\ufffdx")
    assert len(record.source_id) == 512
    assert record.destination_id == "unknown"
