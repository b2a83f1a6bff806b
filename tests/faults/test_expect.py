from lab.faults.expect import EXPECTATIONS, Allowance, Expectation, Injury, Reach, surprises
from lab.faults.tally import Edge, Failure, Flow, Tally

EDGE = Edge(
    "spiffe://hanzo.ai/hanzo-k8s/hanzo/iam", "spiffe://hanzo.ai/hanzo-k8s/hanzo/redis", 6379
)
FLOW = Flow(EDGE, "hanzo/iam-0", frozenset({"hanzo/iam-0", "hanzo/redis-0"}))
INJURY = Injury(frozenset({"hanzo/redis-0"}), at=100.0, back=110.0)
ELSEWHERE = Injury(frozenset({"hanzo/minio-0"}), at=100.0, back=110.0)

UNTIL_BACK = Expectation("", 60, (Allowance(Reach.TOUCHED, cuts=True),))
BRIEFLY = Expectation("", 60, (Allowance(Reach.ALL, lasts=5.0),))
NOTHING = Expectation("", 60)


def failure(at: float, *, cut: bool = False) -> Failure:
    return Failure(FLOW, at, 0.5, "reset", cut)


def tallied(*found: Failure, passed: int = 0) -> Tally:
    cut = tuple(item for item in found if item.cut)
    failed = tuple(item for item in found if not item.cut)
    return Tally(10, failed, 10, cut, 10, passed, {})


def said(expected: Expectation, injury: Injury, seen: Tally) -> list[str]:
    return list(surprises(expected, injury, seen, {}))


def test_where_nothing_may_fail_every_failure_is_a_surprise() -> None:
    assert said(NOTHING, INJURY, tallied()) == []
    (found,) = said(NOTHING, INJURY, tallied(failure(102), failure(103)))
    assert (
        found
        == "2 new connections failed of hanzo/iam -> hanzo/redis:6379: the first +2.0 s, reset"
    )


def test_flows_of_the_pods_that_broke_may_fail_until_these_are_back() -> None:
    assert said(UNTIL_BACK, INJURY, tallied(failure(102), failure(109, cut=True))) == []
    assert said(UNTIL_BACK, ELSEWHERE, tallied(failure(102)))
    assert said(UNTIL_BACK, INJURY, tallied(failure(120)))
    assert said(UNTIL_BACK, INJURY, tallied(failure(99)))


def test_new_connections_may_fail_for_a_while_and_open_ones_not() -> None:
    assert said(BRIEFLY, ELSEWHERE, tallied(failure(104))) == []
    assert said(BRIEFLY, ELSEWHERE, tallied(failure(104, cut=True)))
    assert said(BRIEFLY, ELSEWHERE, tallied(failure(106)))


def test_what_passed_or_is_not_in_the_trail_is_always_a_surprise() -> None:
    seen = tallied(passed=2)
    assert list(surprises(UNTIL_BACK, INJURY, seen, {EDGE: 3})) == [
        "2 connections passed that should have been refused",
        "3 answered connections of hanzo/iam -> hanzo/redis:6379 are not in the trail",
    ]


def test_being_back_has_a_bound() -> None:
    late = Injury(INJURY.pods, 100.0, 161.0)
    assert said(NOTHING, late, tallied()) == ["it was back after 61.0 s, and not within 60 s"]
    never = Injury(INJURY.pods, 100.0, None)
    assert said(UNTIL_BACK, never, tallied(failure(150))) == ["it was not back after 60 s"]


def test_no_fault_may_cut_what_does_not_end_in_what_broke() -> None:
    cuts = [a for item in EXPECTATIONS.values() for a in item.allowances if a.cuts]
    assert cuts
    assert all(item.reach is Reach.TOUCHED for item in cuts)
