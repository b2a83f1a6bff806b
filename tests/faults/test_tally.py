import pytest

from lab.faults.tally import (
    Edge,
    Event,
    Flow,
    Seen,
    Side,
    Sums,
    event_of,
    failures,
    lost,
    percentile,
    sums_of,
    tally,
)

IAM = Edge("spiffe://hanzo.ai/hanzo-k8s/hanzo/iam", "spiffe://hanzo.ai/hanzo-k8s/hanzo/redis", 6379)
FLOW = Flow(IAM, "hanzo/iam-0", frozenset({"hanzo/iam-0", "hanzo/redis-0"}))
OTHER = Flow(IAM, "hanzo/iam-0", frozenset({"hanzo/iam-0"}), declared=False, how="plaintext")


def kept(at: float, error: str | None = None) -> Event:
    return Event(at, Side.KEPT, 0.1, error)


def seen(flow: Flow, *events: Event, new: Sums = Sums(), side: Sums = Sums()) -> Seen:  # noqa: B008
    return Seen(flow, events, new, side)


def test_an_open_connection_that_ends_is_cut_and_one_that_does_not_open_fails() -> None:
    flow = seen(
        FLOW, kept(1), kept(2, "closed"), kept(3, "reset"), kept(4), kept(5, "closed"), kept(6)
    )
    assert [(item.at, item.cut) for item in failures(flow)] == [(2, True), (3, False), (5, True)]


def test_a_new_connection_that_fails_cuts_nothing() -> None:
    flow = seen(FLOW, kept(1), Event(2, Side.NEW, 0.5, "reset"))
    (found,) = failures(flow)
    assert not found.cut
    assert found.began == 1.5


def test_connections_that_were_opened_and_answered_are_counted() -> None:
    flow = seen(
        FLOW,
        kept(1),
        kept(2, "closed"),
        kept(3, "reset"),
        kept(4),
        Event(2.5, Side.NEW, 1.0, "reset"),
        new=Sums(tried=50, failed=1),
        side=Sums(tried=40, failed=2),
    )
    found = tally([flow])
    assert found.opened == 50 + 3  # the kept side opened, failed to, and opened
    assert found.asked == 40 - 3
    assert len(found.cut) == 1
    assert len(found.failed) == 2
    assert found.acknowledged == {IAM: 49 + 2}
    assert found.outage == pytest.approx(3 - 1.5)


def test_a_connection_that_is_down_at_the_end_was_not_opened_again() -> None:
    flow = seen(FLOW, kept(1), kept(2, "closed"), side=Sums(tried=10, failed=1))
    assert tally([flow]).opened == 1
    assert tally([seen(FLOW)]).opened == 0


def test_what_should_be_refused_counts_apart_and_acknowledges_nothing() -> None:
    flow = seen(OTHER, kept(1), new=Sums(tried=9, failed=9), side=Sums(tried=8, failed=7))
    found = tally([flow])
    assert (found.tried, found.passed) == (17, 1)
    assert (found.opened, found.acknowledged, found.outage) == (0, {}, 0.0)


def test_answered_connections_without_a_record_are_lost() -> None:
    elsewhere = IAM._replace(port=1)
    assert lost({IAM: 10, elsewhere: 3}, {IAM: 12, elsewhere: 1}) == {elsewhere: 2}
    assert lost({IAM: 10}, {}) == {IAM: 10}


@pytest.mark.parametrize(
    ("part", "expected"), [(0.0, 1), (0.5, 2), (0.51, 3), (0.75, 3), (0.99, 4), (1.0, 4)]
)
def test_percentiles_are_values_that_were_seen(part: float, expected: int) -> None:
    assert percentile([4, 2, 1, 3], part) == expected


def test_there_is_no_percentile_of_nothing() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


def test_lines_of_the_caller_are_understood() -> None:
    line = {"id": 3, "event": "failed", "side": "kept", "at": 5.0, "seconds": 0.2, "error": "reset"}
    assert event_of(line) == Event(5.0, Side.KEPT, 0.2, "reset")
    assert event_of({**line, "detail": "by peer"}) == Event(5.0, Side.KEPT, 0.2, "reset: by peer")
    well = {"id": 3, "event": "well", "side": "new", "at": 6.0, "seconds": 0.1}
    assert event_of(well) == Event(6.0, Side.NEW, 0.1)
    assert event_of({"id": 3, "event": "end", "at": 7.0}) is None
    sums = {"tried": 5, "failed": 1, "opened": 2, "p50": 0.1, "p99": 0.2, "p100": 0.3}
    assert sums_of(sums) == Sums(5, 1, 0.1, 0.2)


def test_a_flow_is_named_as_people_know_it() -> None:
    assert str(FLOW) == "hanzo/iam -> hanzo/redis:6379"
    assert str(OTHER) == "hanzo/iam -> hanzo/redis:6379 (plaintext)"
