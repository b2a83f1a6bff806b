"""How fast records reach the database: `python -m benchmarks.audit`.

An embedded PostgreSQL with its defaults (fsync on) and the audit schema, on this machine's disk; a
spool that is filled first, then drained by one drainer in this process. Most services have few
distinct connections, so one run has 200 of them; in the other every record is of a new one.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import tempfile
import time
from pathlib import Path

import psycopg

from benchmarks.trail import empty_trail
from engine.audit.drain import Drainer
from engine.audit.outcome import Outcome, encode
from engine.audit.spool import Spool
from engine.settings import Audit, Durability
from zt.decide import Verdict
from zt.model import Phase

_SEGMENT = 64 << 20


def main() -> None:
    """Print what was measured, and under which conditions."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=300_000)
    records = parser.parse_args().records
    with empty_trail() as admin:
        version, durable = _about(admin)
        print(f"PostgreSQL {version}, fsync {durable}; Python {platform.python_version()}")
        print(f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}; {records:,} records a run")
        for distinct in (200, records):
            _measure(admin, records, distinct)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"peak RSS of this process {peak / 1024:.0f} MiB")


def _measure(admin: str, records: int, distinct: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        spool = Spool(root / "spool", segment_bytes=_SEGMENT, limit_bytes=1 << 40)
        outcomes = [encode(_outcome(number)) for number in range(distinct)]
        started = time.perf_counter()
        for number in range(records):
            _append(spool, outcomes[number % distinct])
        appended = time.perf_counter() - started
        spool.close()
        drained = _drain(root, admin)
    print(
        f"{distinct:>9,} distinct outcomes: appended {records / appended:>9,.0f}/s,"
        f" into the database {records / drained:>7,.0f} rows/s"
    )


def _append(spool: Spool, outcome: bytes) -> None:
    while True:
        try:
            spool.append(outcome, time.time_ns() // 1000, 12)
        except BlockingIOError:
            continue  # faster than segments are allocated
        return


def _drain(root: Path, admin: str) -> float:
    """Seconds until all of a spool is committed."""
    audit = Audit(admin, Durability.PROCESS, _SEGMENT, 1 << 40, None, None)
    started = time.perf_counter()
    Drainer(root / "spool", audit, root).drain(lambda: True)
    return time.perf_counter() - started


def _outcome(number: int) -> Outcome:
    base = "spiffe://hanzo.ai/east/namespace"
    return Outcome(
        verdict=Verdict.ALLOW,
        would_be=Verdict.ALLOW,
        phase=Phase.ENFORCE,
        source_id=f"{base}/caller",
        source_pod=f"caller-7d4b9c-{number:06}",
        source_node="node-1",
        destination_id=f"{base}/service-{number % 50}",
        destination_port=8080,
        rule=f"rules/rule-{number % 50}",
        reason="rule",
        layer="evaluator",
        revision="0123456789abcdef",
    )


def _about(admin: str) -> tuple[str, str]:
    with psycopg.connect(admin) as connection:
        row = connection.execute(
            "SELECT current_setting('server_version'), current_setting('fsync')"
        ).fetchone()
    assert row is not None  # noqa: S101 - it is one row
    return str(row[0]), str(row[1])


if __name__ == "__main__":
    main()
