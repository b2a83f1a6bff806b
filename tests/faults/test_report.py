import io
import json

from rich.console import Console

from lab.faults.expect import EXPECTATIONS, Injury
from lab.faults.report import Outcome, as_json, page, show
from lab.faults.tally import Edge, Failure, Flow, Tally

EDGE = Edge(
    "spiffe://hanzo.ai/hanzo-k8s/hanzo/iam", "spiffe://hanzo.ai/hanzo-k8s/hanzo/redis", 6379
)
FLOW = Flow(EDGE, "hanzo/iam-0", frozenset({"hanzo/iam-0", "hanzo/redis-0"}))


def outcome(*, passed: int = 0, recorded: int = 10, steady: bool = True) -> Outcome:
    failed = (Failure(FLOW, 101.0, 0.5, "reset", cut=False),)
    return Outcome(
        name="evaluator",
        title="one evaluator",
        target="hanzo/zt-policy-engine-0 (zt)",
        down=0.0,
        expected=EXPECTATIONS["evaluators"],
        injury=Injury(frozenset({"hanzo/zt-policy-engine-0"}), 100.0, 104.25),
        seen=Tally(20, failed, 30, (), 15, passed, {EDGE: 10}),
        recorded={EDGE: recorded},
        steady=steady,
    )


def test_a_report_that_held_says_so() -> None:
    found = as_json([outcome()])
    assert (found["held"], found["passed"], found["lost"]) == (True, 0, 0)
    (fault,) = found["faults"]
    assert fault["recovery_seconds"] == 4.25
    assert (fault["opened"], fault["failed"], fault["cut"]) == (20, 1, 0)
    assert json.loads(json.dumps(found)) == found


def test_what_passed_or_was_lost_or_did_not_recover_did_not_hold() -> None:
    assert as_json([outcome(), outcome(passed=1)])["passed"] == 1
    assert as_json([outcome(recorded=7)])["lost"] == 3
    assert not as_json([outcome()], wanted=2)["held"]
    for odd in (outcome(passed=1), outcome(recorded=7), outcome(steady=False)):
        assert not as_json([odd])["held"]


def test_the_page_has_a_row_for_each_fault_and_all_surprises() -> None:
    text = page([outcome(), outcome(recorded=7)], "hanzo-k8s")
    assert text.count("| one evaluator | 4.2 s | 20 | 1 | 30 | 0 |") == 2
    assert "- one evaluator: 3 answered connections of hanzo/iam -> hanzo/redis:6379" in text
    assert page([outcome()], "hanzo-k8s").endswith("## Surprises\n\nNone.\n")


def test_the_table_is_shown() -> None:
    written = io.StringIO()
    show(Console(file=written, width=200), [outcome(), outcome(steady=False)])
    assert "2 faults: 0 disallowed connections passed, 0 records lost" in written.getvalue()
    assert "declared flows were not steady again afterwards" in written.getvalue()
