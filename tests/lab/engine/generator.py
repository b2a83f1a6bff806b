"""Appends records to a spool at a steady rate, and notes which of them were acknowledged."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

from engine.audit.outcome import Outcome, encode
from engine.audit.spool import Files, Spool
from zt.decide import Verdict
from zt.model import Phase

SEGMENT = 1 << 20
LIMIT = 1 << 30
DAY_US = 86_400_000_000
# Days that a clock is wrong by, one after the other.
STEPS = (0, -3, 0, 2, -200, 0, -20_000, 300_000, 0)
STEP_RECORDS = 1500
TICK = 0.01


def main(root: Path, rate: int, clock: int, failing: int) -> None:
    """Append ``rate`` records a second until SIGTERM.

    With ``clock``, it is stepped. With ``failing``, each record is synchronised before it is
    acknowledged, and one synchronisation of so many fails.
    """
    told = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: told.set())
    spool = Spool(
        root / "spool",
        segment_bytes=SEGMENT,
        limit_bytes=LIMIT,
        files=Files(datasync=_datasync(failing)),
    )
    outcomes = [encode(_outcome(number)) for number in range(50)]
    acknowledged = failures = 0
    with (root / "acknowledged").open("wb", buffering=0) as notes:
        while not told.is_set():
            started = time.monotonic()
            for _ in range(int(rate * TICK)):
                shift = _shift(spool.sequence) if clock else 0
                try:
                    sequence = spool.append(
                        outcomes[spool.sequence % 50], time.time_ns() // 1000 + shift, 5
                    )
                    if failing:
                        spool.sync()
                except OSError:
                    failures += 1
                else:
                    acknowledged = sequence
                    notes.write(sequence.to_bytes(8, "little"))
            time.sleep(max(0.0, TICK - (time.monotonic() - started)))
    last = spool.sequence
    spool.close()
    summary = {
        "writer": spool.writer,
        "appended": last,
        "acknowledged": acknowledged,
        "failures": failures,
    }
    (root / "told").write_text(json.dumps(summary))


def _shift(sequence: int) -> int:
    return STEPS[sequence // STEP_RECORDS % len(STEPS)] * DAY_US


def _datasync(failing: int) -> Callable[[int], None]:
    turns = 0

    def datasync(descriptor: int) -> None:
        nonlocal turns
        turns += 1
        if failing and turns % failing == 0:
            raise OSError(5, os.strerror(5))
        os.fdatasync(descriptor)

    return datasync


def _outcome(number: int) -> Outcome:
    return Outcome(
        verdict=Verdict.ALLOW,
        would_be=Verdict.ALLOW,
        phase=Phase.ENFORCE,
        source_id="spiffe://hanzo.ai/east/shop/web",
        source_pod=f"web-{number}",
        source_node="node-1",
        destination_id="spiffe://hanzo.ai/east/shop/db",
        destination_port=5432,
        rule="core/rule-1",
        reason="rule",
        layer="evaluator",
        revision="0123456789abcdef",
    )
