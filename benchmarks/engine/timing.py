"""Decisions in one process: what is measured of them, and how."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter_ns
from typing import TypeVar

from benchmarks.engine.workload import Ask

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Timing:
    """Latencies of decisions in microseconds; ``wrong`` is how many were not as expected."""

    load_seconds: float
    count: int
    p50_us: float
    p99_us: float
    p999_us: float
    wrong: int


def timing(load_seconds: float, nanoseconds: list[int], wrong: int) -> Timing:
    """The figures of a run."""
    ordered = sorted(nanoseconds)
    p50, p99, p999 = (
        ordered[int(share * (len(ordered) - 1))] / 1e3 for share in (0.5, 0.99, 0.999)
    )
    return Timing(load_seconds, len(ordered), p50, p99, p999, wrong)


def timed(decide: Callable[[T], object], asks: Sequence[T]) -> list[int]:
    """Decide each once; how long each took, in nanoseconds."""
    taken = []
    for ask in asks:
        started = perf_counter_ns()
        decide(ask)
        taken.append(perf_counter_ns() - started)
    return taken


def write_asks(asks: Iterable[Ask], path: Path) -> None:
    """Requests as JSON lines, for processes of their own; ports are text, as in OPA's data."""
    with path.open("w") as file:
        for ask in asks:
            file.write(json.dumps(asdict(ask) | {"port": str(ask.port)}) + "\n")


def read_asks(path: Path) -> list[Ask]:
    """What ``write_asks`` wrote."""
    with path.open() as file:
        found = map(json.loads, file)
        return [Ask(a["source"], a["destination"], int(a["port"]), a["rule"]) for a in found]
