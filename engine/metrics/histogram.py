"""How long decisions took: a histogram of fine buckets that processes add up exactly.

Buckets grow with what they hold: 64 for each power of two, so that a quantile is right to 1 %.
Counts only ever grow. Each ten seconds' first observation leaves a copy of them as they were, and
what happened of late is the difference between now and a copy: of 50 to 60 seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from math import nan

_SUBDIVISION = 6
_LONGEST = 36  # bits of nanoseconds: 69 seconds
BUCKETS = (_LONGEST - _SUBDIVISION + 1) << _SUBDIVISION
_TOP = (1 << _LONGEST) - 1
_BITS = _SUBDIVISION + 1
_LINEAR = 1 << _BITS
SLICES = 6
SLICE_NS = 10_000_000_000

# Cells: the sum in nanoseconds, the number of the slice that each copy begins, counts, copies.
_SUM = 0
_NUMBERS = 1
HEAD_BYTES = 8 * (_NUMBERS + SLICES)
_COUNTS = 8
_COPIES = _COUNTS + BUCKETS
HISTOGRAM_CELLS = _COPIES + SLICES * BUCKETS


def observer(cells: memoryview) -> Callable[[int], None]:
    """What notes a duration in nanoseconds, in cells that no other process writes.

    A closure, because it is called for every decision: attributes would cost a third more.
    """
    clock, due = time.monotonic_ns, 0

    def observe(nanoseconds: int) -> None:
        nonlocal due
        now = clock()
        if now >= due:
            due = _turn(cells, now)
        if nanoseconds > _TOP:
            cells[_COPIES - 1] += 1
        elif nanoseconds < _LINEAR:
            cells[_COUNTS + nanoseconds] += 1
        else:
            shift = nanoseconds.bit_length() - _BITS
            cells[_COUNTS + (shift << _SUBDIVISION) + (nanoseconds >> shift)] += 1
        cells[_SUM] += nanoseconds

    return observe


def _turn(cells: memoryview, now: int) -> int:
    """Leave a copy for this slice of time, unless a predecessor did; returns when the next is."""
    number = now // SLICE_NS
    place = number % SLICES
    if cells[_NUMBERS + place] != number:
        # A reader sees by the number whether a copy was changed under it.
        cells[_NUMBERS + place] = 0
        start = _COPIES + place * BUCKETS
        cells[start : start + BUCKETS] = cells[_COUNTS:_COPIES]
        cells[_NUMBERS + place] = number
    return (number + 1) * SLICE_NS


def bucket(nanoseconds: int) -> int:
    """The bucket of a duration."""
    shift = max(nanoseconds.bit_length() - _BITS, 0)
    return (shift << _SUBDIVISION) + (nanoseconds >> shift) if nanoseconds <= _TOP else BUCKETS - 1


def middle(index: int) -> float:
    """What a bucket's durations are taken for, in nanoseconds."""
    shift = max((index >> _SUBDIVISION) - 1, 0)
    return float((index - (shift << _SUBDIVISION)) << shift) + ((1 << shift) - 1) / 2


@dataclass(frozen=True, slots=True)
class Durations:
    """Observations added up: of all time, and of the last minute; both a count for each bucket."""

    total_ns: int
    counts: tuple[int, ...]
    recent: tuple[int, ...]


def durations(histograms: Iterable[memoryview], now_ns: int) -> Durations:
    """Add up histograms' cells; ``now_ns`` is of the clock that ``observe`` looks at."""
    total, counts, recent = 0, [0] * BUCKETS, [0] * BUCKETS
    for cells in histograms:
        total += cells[_SUM]
        own = cells[_COUNTS:_COPIES].tolist()
        counts = [a + b for a, b in zip(counts, own, strict=True)]
        base = _base(cells, now_ns // SLICE_NS)
        if base is not None:
            recent = [a + b - c for a, b, c in zip(recent, own, base, strict=True)]
    return Durations(total, tuple(counts), tuple(max(count, 0) for count in recent))


def _base(cells: memoryview, current: int) -> list[int] | None:
    """The counts before the oldest slice of the last minute; ``None`` if it is empty."""
    numbers = cells[_NUMBERS : _NUMBERS + SLICES].tolist()
    fitting = [number for number in numbers if max(current - SLICES, 0) < number <= current]
    if not fitting:
        return None
    start = _COPIES + min(fitting) % SLICES * BUCKETS
    return cells[start : start + BUCKETS].tolist()


def quantile(counts: Iterable[int], share: float) -> float:
    """The duration, in nanoseconds, that a share of them does not exceed; NaN of none."""
    reached = list(accumulate(counts))
    if not reached or not reached[-1]:
        return nan
    rank = max(share * reached[-1], 1)
    return middle(next(index for index, count in enumerate(reached) if count >= rank))


def at_most(counts: Iterable[int], bounds: Iterable[int]) -> list[int]:
    """For each bound in nanoseconds how many lasted no longer, to the 1 % that buckets are wide."""
    reached = [0, *accumulate(counts)]
    return [reached[_within(bound)] for bound in bounds]


@cache
def _within(nanoseconds: int) -> int:
    """How many buckets are taken for no longer."""
    return sum(middle(index) <= nanoseconds for index in range(BUCKETS))
