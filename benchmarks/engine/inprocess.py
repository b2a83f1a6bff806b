"""This evaluator's decisions without a network: ``prepare`` and ``append``, as a worker calls them.

``python -m benchmarks.engine.inprocess POLICY-FOLDER STATE REQUESTS`` measures in a process of its
own: the table is mapped from what the builder left, records go to a real spool, and counters to
shared memory. A request is parsed already, as a worker has it from its protocol. ``new`` is a
connection that is asked about for the first time; ``known`` is one whose answer is prepared
already, as a worker keeps it while the policy stays.
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
from engine.decider import Decider, Prepared, View
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


def measure(policy: Path, state: Path, requests: Path) -> dict[str, Timing]:
    """Both ways of asking, with the same requests."""
    started = perf_counter_ns()
    decider = _decider(policy, state)
    loaded = (perf_counter_ns() - started) / 1e9
    asks = read_asks(requests)
    wrong = sum(decider.prepare(_request(ask), LAYER).answer.rule != ask.rule for ask in asks)
    # Texts that nobody has hashed yet, as those that come over a network.
    fresh = list(map(_request, read_asks(requests)))
    again = [decider.prepare(request, LAYER) for request in fresh[:_KNOWN]]
    gc.collect()
    gc.freeze()

    def new(request: Request) -> None:
        began = perf_counter_ns()
        decider.append(decider.prepare(request, LAYER), began)

    def known(prepared: Prepared) -> None:
        decider.append(prepared, perf_counter_ns())

    timed(new, list(map(_request, asks[:_WARM_UP])))
    return {
        "new": timing(loaded, timed(new, fresh), wrong),
        "known": timing(loaded, timed(known, again * (len(asks) // _KNOWN)), wrong),
    }


def _decider(policy: Path, state: Path) -> Decider:
    spool = Spool(
        state / "spool", segment_bytes=SEGMENT_BYTES, limit_bytes=_SPOOL_BYTES, mapped=True
    )
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
    measured = measure(policy, state, requests)
    print(json.dumps({name: asdict(figures) for name, figures in measured.items()}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
