"""What Prometheus scrapes: all processes of an evaluator added up, and the state around them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from engine.metrics import families
from engine.metrics.cells import Reading, readings
from engine.metrics.families import FAMILIES, FIXED, Series
from engine.metrics.histogram import Durations, at_most, durations, quantile
from engine.metrics.state import METRICS, Drained, drained, spool_bytes, status
from engine.metrics.text import Sample, text
from engine.policy.status import Status

QUANTILES = (0.5, 0.9, 0.99)
# Microseconds; 42 is what the specification's example takes.
_BOUNDS = (2, 5, 10, 20, 42, 100, 200, 500, 1_000, 5_000, 20_000, 100_000, 1_000_000)
_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class State:
    """What is not counted in cells; ``spool_bytes`` of records wait for the database."""

    ready: bool
    audit_available: bool
    policy: Status = field(default_factory=Status)
    drained: Drained = field(default_factory=Drained)
    spool_bytes: int = 0


def render(folder: Path, *, ready: bool, audit_available: bool) -> str:
    """The text for an evaluator whose state lies in a folder (``ZT_STATE_PATH``).

    ``ready`` is whether a policy is in force, ``audit_available`` whether decisions can be
    recorded. Takes milliseconds, and up to a second with all 65,536 series: call it off the event
    loop.
    """
    state = State(ready, audit_available, status(folder), drained(folder), spool_bytes(folder))
    return rendered(readings(folder / METRICS), state)


def rendered(counted: Iterable[Reading], state: State) -> str:
    """The text for what processes counted."""
    read = list(counted)
    totals: Counter[Series] = Counter(dict.fromkeys(FIXED, 0))
    for reading in read:
        for series, value in reading.series:
            totals[series] += value
    totals[families.LOST,] += state.drained.lost
    spent = durations((reading.histogram for reading in read), time.monotonic_ns())
    samples = {
        **_counted(totals),
        families.DURATION: list(_summary(spent)),
        families.BUCKETED: list(_buckets(spent)),
        **_state(state, time.time()),
    }
    return text((name, samples.get(name, ())) for name in FAMILIES)


def _counted(totals: Counter[Series]) -> dict[str, list[Sample]]:
    found: dict[str, list[Sample]] = {}
    for (name, *labels), value in sorted(totals.items()):
        # The shared series would be two that say nothing, in nearly every evaluator.
        if value or families.OTHER not in labels:
            found.setdefault(name, []).append(("", labels, value))
    return found


def _summary(spent: Durations) -> Iterator[Sample]:
    for share in QUANTILES:
        yield "", [str(share)], quantile(spent.recent, share) / _NS
    yield "_sum", (), spent.total_ns / _NS
    yield "_count", (), sum(spent.counts)


def _buckets(spent: Durations) -> Iterator[Sample]:
    reached = at_most(spent.counts, (bound * 1000 for bound in _BOUNDS))
    for bound, count in zip(_BOUNDS, reached, strict=True):
        yield "_bucket", [str(bound / 1_000_000)], count
    yield "_bucket", ["+Inf"], sum(spent.counts)
    yield "_sum", (), spent.total_ns / _NS
    yield "_count", (), sum(spent.counts)


def _state(state: State, now: float) -> dict[str, list[Sample]]:
    policy, done = state.policy, state.drained
    plain = {
        families.READY: state.ready,
        families.STALE: bool(policy.problems),
        families.LOADED: policy.loaded_at,
        families.AUDIT: state.audit_available,
        families.SPOOL_BYTES: state.spool_bytes,
        families.SPOOL_AGE: done.waited(now),
        families.ROWS: done.rows,
        families.COMMITTED: done.last_commit,
        families.FAILING: done.failing,
        families.REDATED: done.redated,
    }
    samples: dict[str, list[Sample]] = {name: [("", (), v)] for name, v in plain.items()}
    samples[families.POLICY] = [("", [policy.revision], 1)]
    samples[families.RELOADS] = [("", [key], n) for key, n in sorted(policy.reloads.items())]
    return samples
