"""This evaluator's decisions without a network: ``prepare`` and ``append``, as a worker calls them.

``python -m benchmarks.engine.inprocess POLICY-FOLDER SPOOL REQUESTS`` measures in a process of its
own: the table is mapped from what the builder left, records go to a real spool, and counters to
shared memory. ``new`` is a connection that is asked about for the first time; ``known`` is one
whose answer is prepared already, as a worker keeps it while the policy stays.
"""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from time import perf_counter_ns

from benchmarks.engine.timing import Timing, read_asks, timed, timing
from benchmarks.engine.workload import Ask
from engine.audit.spool import Spool
from engine.decider import Decider, View
from engine.evaluate import Request
from engine.http.questions import LAYER
from engine.locate import Locations
from engine.metrics.metrics import Metrics
from engine.policy.store import PolicyStore
from engine.settings import SEGMENT_BYTES

_WARM_UP = 5_000
_KNOWN = 1_000
_SPOOL_BYTES = 1 << 33


class _AtOnce:
    """Durability ``process``: what has been appended is safe enough."""

    immediate = True

    def when(self, sequence: int, settle: Callable[[bool], None]) -> None:
        """It is safe already."""
        del sequence
        settle(True)  # noqa: FBT003 - its one argument


def measure(policy: Path, state: Path, asks: list[Ask]) -> dict[str, Timing]:
    """Both ways of asking, with the same requests."""
    started = perf_counter_ns()
    decider = _decider(policy, state)
    loaded = (perf_counter_ns() - started) / 1e9
    wrong = sum(decider.prepare(_request(ask), LAYER).answer.rule != ask.rule for ask in asks)
    gc.collect()
    gc.freeze()

    def new(ask: Ask) -> None:
        began = perf_counter_ns()
        decider.append(decider.prepare(_request(ask), LAYER), began)

    prepared = {ask: decider.prepare(_request(ask), LAYER) for ask in asks[:_KNOWN]}

    def known(ask: Ask) -> None:
        decider.append(prepared[ask], perf_counter_ns())

    timed(new, asks[:_WARM_UP])
    again = (asks[:_KNOWN] * (len(asks) // _KNOWN + 1))[: len(asks)]
    return {
        "new": timing(loaded, timed(new, asks), wrong),
        "known": timing(loaded, timed(known, again), wrong),
    }


def _decider(policy: Path, state: Path) -> Decider:
    spool = Spool(state / "spool", segment_bytes=SEGMENT_BYTES, limit_bytes=_SPOOL_BYTES)
    store = PolicyStore(policy)
    store.refresh()
    (state / "metrics").mkdir(parents=True)
    return Decider(
        View(store.current, Locations()),
        spool,
        _AtOnce(),
        Metrics(state / "metrics"),
    )


def _request(ask: Ask) -> Request:
    return Request(ask.source, ask.destination, ask.port)


def main(arguments: list[str]) -> int:
    """Print the figures as JSON."""
    policy, state, requests = map(Path, arguments)
    measured = measure(policy, state, read_asks(requests))
    print(json.dumps({name: asdict(figures) for name, figures in measured.items()}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
