import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.metrics.histogram import (
    BUCKETS,
    HISTOGRAM_CELLS,
    SLICE_NS,
    at_most,
    bucket,
    durations,
    middle,
    observer,
    quantile,
)

LONGEST = (1 << 36) - 1
NANOSECONDS = st.integers(0, LONGEST) | st.integers(0, 1_000_000)


def cells() -> memoryview:
    return memoryview(bytearray(8 * HISTOGRAM_CELLS)).cast("Q")


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_000 * SLICE_NS
        monkeypatch.setattr(time, "monotonic_ns", lambda: self.now)

    def seconds(self, seconds: float) -> None:
        self.now += int(seconds * 1e9)


@given(NANOSECONDS)
def test_a_bucket_is_taken_for_what_it_holds_to_one_per_cent(nanoseconds: int) -> None:
    assert abs(middle(bucket(nanoseconds)) - nanoseconds) <= nanoseconds * 0.01


@given(NANOSECONDS, NANOSECONDS)
def test_buckets_are_in_order(one: int, other: int) -> None:
    assert (bucket(one) <= bucket(other)) == (middle(bucket(one)) <= middle(bucket(other)))
    assert bucket(min(one, other)) <= bucket(max(one, other))


def test_every_bucket_is_used() -> None:
    assert [bucket(math.ceil(middle(index))) for index in range(BUCKETS)] == list(range(BUCKETS))


@given(st.lists(NANOSECONDS, min_size=1, max_size=200), st.integers(1, 4), st.floats(0.01, 1))
def test_processes_add_up_to_the_quantile_of_all_values(
    values: list[int], processes: int, share: float
) -> None:
    parts = [cells() for _ in range(processes)]
    observers = [observer(part) for part in parts]
    for number, value in enumerate(values):
        observers[number % processes](value)
    found = durations(parts, time.monotonic_ns())
    exact = sorted(values)[max(math.ceil(share * len(values)), 1) - 1]
    assert quantile(found.recent, share) == pytest.approx(exact, rel=0.01, abs=0.6)
    assert quantile(found.counts, share) == quantile(found.recent, share)
    assert found.total_ns == sum(values)
    assert sum(found.counts) == len(values)


@given(st.lists(NANOSECONDS), NANOSECONDS)
def test_what_lasted_no_longer_is_counted_to_one_per_cent(values: list[int], bound: int) -> None:
    part = cells()
    observe = observer(part)
    for value in values:
        observe(value)
    [found] = at_most(durations([part], time.monotonic_ns()).counts, [bound])
    assert sum(value <= bound * 0.98 for value in values) <= found
    assert found <= sum(value <= bound * 1.02 + 1 for value in values)


def test_longer_than_a_minute_counts_as_a_minute() -> None:
    part = cells()
    observer(part)(1 << 50)
    found = durations([part], time.monotonic_ns())
    assert found.counts[-1] == 1
    assert found.total_ns == 1 << 50


def test_quantiles_forget_after_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, part = Clock(monkeypatch), cells()
    observe = observer(part)
    observe(1_000_000)
    clock.seconds(49)
    observe(10)
    assert sum(durations([part], clock.now).recent) == 2
    clock.seconds(12)
    found = durations([part], clock.now)
    assert sum(found.recent) == 1
    assert quantile(found.recent, 0.99) == 10
    assert sum(found.counts) == 2
    clock.seconds(600)
    assert math.isnan(quantile(durations([part], clock.now).recent, 0.5))


@given(st.lists(st.tuples(st.floats(0, 25), st.integers(1, 100)), max_size=40))
def test_of_late_is_fifty_to_sixty_seconds(steps: list[tuple[float, int]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        clock, part = Clock(patch), cells()
        observe = observer(part)
        told: list[tuple[int, int]] = []
        for wait, nanoseconds in steps:
            clock.seconds(wait)
            observe(nanoseconds)
            told.append((clock.now, nanoseconds))
        recent = sum(durations([part], clock.now).recent)
    since = clock.now // SLICE_NS * SLICE_NS - 5 * SLICE_NS
    assert recent == sum(at >= since for at, _ in told)


def test_a_successor_in_the_same_cells_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, part = Clock(monkeypatch), cells()
    observer(part)(100)
    clock.seconds(1)
    observer(part)(100)
    assert sum(durations([part], clock.now).recent) == 2


def test_cells_of_before_a_reboot_are_not_of_late(monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(monkeypatch)
    part = cells()
    observer(part)(100)
    assert sum(durations([part], 100 * SLICE_NS).recent) == 0
    assert sum(durations([part], 100 * SLICE_NS).counts) == 1
