import pytest

from engine.audit import rows
from engine.audit.chain import body, leaf_hash, root_of
from engine.audit.frames import Records
from engine.audit.outcome import encode
from engine.audit.rows import DAY_US, Known, Outcomes, corrected, days, prepare
from tests.engine.audit.trails import an_outcome
from zt.decide import Verdict

NOON_US = 20_000 * DAY_US + DAY_US // 2
HOUR_US = DAY_US // 24


def records(*times_us: int, verdict: Verdict = Verdict.ALLOW) -> Records:
    outcome = encode(an_outcome(4, verdict))
    return Records(7, [body(7 + at, time_us, 5, outcome) for at, time_us in enumerate(times_us)])


def test_a_batch_says_what_it_is_of() -> None:
    given = records(NOON_US, NOON_US + 9, NOON_US - 5)
    batch = prepare(3, given, Outcomes())
    assert (batch.first, batch.last) == (7, 9)
    assert (batch.since_us, batch.until_us) == (NOON_US - 5, NOON_US + 9)
    assert batch.root == root_of([leaf_hash(3, record) for record in given.bodies])


def test_an_outcome_that_is_stored_is_not_new() -> None:
    outcomes, given = Outcomes(), records(NOON_US, NOON_US)
    first = prepare(3, given, outcomes)
    assert len(first.new) == 1
    assert first.new_outcomes() == f"[{encode(an_outcome(4)).decode()}]"
    assert not outcomes
    outcomes.store(first.new)
    assert not prepare(3, given, outcomes).new


def test_the_memory_of_outcomes_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "_MAX_OUTCOMES", 10)
    outcomes = Outcomes()
    for number in range(100):
        outcomes.store({b"%d" % number: Known(bytes(16), ("", "", 0), (1, 0, 0))})
        assert b"%d" % number in outcomes
        assert len(outcomes) <= 10


def test_counts_of_an_edge_are_added_up_by_hour() -> None:
    allowed = records(NOON_US, NOON_US + 1, NOON_US + HOUR_US)
    denied = records(NOON_US + 2, verdict=Verdict.DENY)
    bodies = allowed.bodies + denied.bodies
    columns = prepare(3, Records(7, bodies), Outcomes()).edges()
    edges = list(zip(*columns, strict=True))
    assert [edge[3:6] for edge in edges] == [(2, 1, 2), (1, 0, 1)]
    assert [edge[6].hour for edge in edges] == [12, 13]


def test_only_records_of_refused_days_are_changed() -> None:
    given = records(NOON_US, 0, NOON_US + DAY_US)
    assert days(given.bodies) == {0, 20_000, 20_001}
    found = corrected(given, {0}, NOON_US)
    assert found.bodies == records(NOON_US, NOON_US, NOON_US + DAY_US).bodies
    assert found.bodies[0] is given.bodies[0]


def test_what_is_no_outcome_is_told() -> None:
    with pytest.raises(ValueError, match="list"):
        prepare(3, Records(1, [body(1, NOON_US, 5, b"{}")]), Outcomes())
