"""What reading the audit trail costs: `python -m benchmarks.audit_read`.

An embedded PostgreSQL with its defaults and the audit schema gets 5 million decisions of 8 days: 40
edges with 3 pods each, some far more frequent than others, a few denied, and one outcome that
occurred once. No statistics are taken. Then pages are read, each kind many times, at the end and
from random places in the middle; edges; and a stream.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from uuid import UUID

import psycopg
from psycopg import Connection, sql

from benchmarks.trail import empty_trail
from engine.audit.outcome import COLUMNS, Outcome, encode, record_id
from engine.audit.reader import AuditReader, Cursor, Query
from zt.decide import Verdict
from zt.model import Phase

ROWS, DAYS = 5_000_000, 8
PAGE_TARGET, EDGES_TARGET = 0.2, 0.1
_EDGES, _PODS, _DENIED_EVERY = 40, 3, 13
_RUNS = 100
_WRITER = 0x123456789ABCDEF
_BATCH = 5000
_STREAMED = 200_000
_NAME = "spiffe://hanzo.ai/hanzo-k8s/hanzo/"
RARE, NEVER = f"{_NAME}rare", f"{_NAME}never"
Read = Callable[[], Awaitable[object]]

# Frequencies fall off: random()^3 makes the first outcomes some hundred times the last ones.
_INSERT = """
INSERT INTO zt_audit.decision
SELECT (%(high)s || lpad(to_hex((1::bigint << 63) | (%(first)s + n)), 16, '0'))::uuid,
  %(start)s + n * (interval '1 day' / %(rows)s),
  (%(outcomes)s::uuid[])[1 + floor(cardinality(%(outcomes)s::uuid[]) * random() ^ 3)::integer],
  12 + n %% 40
FROM generate_series(0, %(rows)s - 1) AS n
"""
_COUNT = """
INSERT INTO zt_audit.edge_count
SELECT span, CASE span WHEN 'ever' THEN to_timestamp(0) ELSE date_trunc(span, hour, 'UTC') END,
  coalesce(source_id, ''), destination_id, destination_port,
  coalesce(sum(number) FILTER (WHERE verdict = 'ALLOW'), 0),
  coalesce(sum(number) FILTER (WHERE verdict = 'DENY'), 0), 0, max(last_seen)
FROM (SELECT outcome, date_trunc('hour', time, 'UTC') AS hour, count(*) AS number,
    max(time) AS last_seen FROM zt_audit.decision GROUP BY 1, 2) AS counted
  JOIN zt_audit.outcome ON id = outcome CROSS JOIN unnest(ARRAY['hour', 'day', 'ever']) AS span
GROUP BY 1, 2, 3, 4, 5
"""
_BATCHES = """
INSERT INTO zt_audit.batch
SELECT row_number() OVER (ORDER BY first), %(writer)s, first, least(first + %(size)s - 1, %(rows)s),
  %(start)s + (first - 1) * (interval '1 day' / %(daily)s),
  %(start)s + (first + %(size)s) * (interval '1 day' / %(daily)s), sha256('root'), sha256('chain')
FROM generate_series(1, %(rows)s, %(size)s) AS first
"""


@dataclass(frozen=True, slots=True)
class Measured:
    """Seconds that one kind of question took, and what it may take."""

    name: str
    seconds: Sequence[float]
    target: float

    def percentile(self, percent: int) -> float:
        """In seconds."""
        return statistics.quantiles(self.seconds, n=100, method="inclusive")[percent - 1]


def main() -> int:
    """Print the figures; 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--days", type=int, default=DAYS)
    parser.add_argument("--runs", type=int, default=_RUNS)
    arguments = parser.parse_args()
    with empty_trail() as admin:
        started = time.perf_counter()
        fill(admin, arguments.rows, arguments.days)
        filled = time.perf_counter() - started
        print(f"PostgreSQL {_version(admin)}; Python {platform.python_version()}")
        print(f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}")
        print(f"{arguments.rows:,} decisions of {arguments.days} days, filled in {filled:.0f} s")
        measured = asyncio.run(measure(admin, arguments.rows, arguments.days, arguments.runs))
        rate = asyncio.run(_stream(admin))
    for one in measured:
        print(_line(one))
    print(f"stream: {rate:,.0f} records/s")
    missed = [one.name for one in measured if one.percentile(99) > one.target]
    print("targets missed: " + ", ".join(missed) if missed else "all targets met")
    return 1 if missed else 0


def fill(admin: str, rows: int = ROWS, days: int = DAYS) -> None:
    """Fill an empty trail; the last day is today, full to its end."""
    outcomes = _outcomes()
    start, daily = _start(days), rows // days
    high = f"{record_id(_WRITER, 0).hex[:16]}"
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute("SET synchronous_commit = off")
        connection.execute("SELECT setseed(0.5)")
        _insert_outcomes(connection, [*outcomes, _named(RARE), _named(NEVER)])
        for number in range(days):
            day = start + timedelta(days=number)
            connection.execute("SELECT zt_audit.add_partition(%s)", [day.date()])
            values = {
                "high": high,
                "first": number * daily + 1,
                "start": day,
                "rows": daily,
                "outcomes": list(map(_id, outcomes)),
            }
            connection.execute(_INSERT, values)
        middle = start + timedelta(days=days // 2, hours=3)
        connection.execute(
            "INSERT INTO zt_audit.decision VALUES (gen_random_uuid(), %s, %s, 20)",
            [middle, _id(_named(RARE))],
        )
        connection.execute(_COUNT)
        batches = {"writer": _WRITER, "size": _BATCH, "rows": daily * days}
        connection.execute(_BATCHES, batches | {"start": start, "daily": daily})


def questions() -> dict[str, Query]:
    """Kinds of pages: from those that every decision matches to those that none does."""
    one = _outcomes()[0]
    return {
        "no filter": Query(),
        "all allowed": Query(verdict=Verdict.ALLOW),
        "denied": Query(verdict=Verdict.DENY),
        "a source": Query(source=one.source_id),
        "a destination": Query(destination=one.destination_id),
        "a rule": Query(rule=one.rule),
        "a frequent pod": Query(pod=one.source_pod),
        "a seldom pod": Query(pod=_outcomes()[-1].source_pod),
        "one in all": Query(source=RARE),
        "one in all, by layer": Query(layer="handshake"),
        "none of an outcome": Query(source=NEVER),
        "no outcome": Query(reason="no_such_reason"),
        "denied, 1,000": Query(verdict=Verdict.DENY, limit=1000),
        "a seldom pod, 1,000": Query(pod=_outcomes()[-1].source_pod, limit=1000),
    }


async def measure(dsn: str, rows: int, days: int, runs: int) -> list[Measured]:
    """Ask each kind of question many times."""
    reader = AuditReader(dsn)
    start = _start(days)
    chance = random.Random(1)  # noqa: S311 - not for secrets

    def somewhere(query: Query) -> Read:
        """The query, or a page of it that begins at a random place."""

        def read() -> Awaitable[object]:
            asked = query
            if chance.random() < 0.5:  # noqa: PLR2004 - every other one
                time = start + timedelta(days=days) * chance.random()
                asked = replace(query, after=Cursor(time, UUID(int=0)))
            return reader.records(asked)

        return read

    def record() -> Awaitable[object]:
        return reader.record(record_id(_WRITER, chance.randrange(1, rows // days * days)))

    now = start + timedelta(days=days)
    try:
        found = [
            await _measured(f"page: {name}", somewhere(query), runs, PAGE_TARGET)
            for name, query in questions().items()
        ]
        found.append(await _measured("one record by ID", record, runs, PAGE_TARGET))
        for name, since in (
            ("ever", None),
            ("since an hour", now - timedelta(hours=1)),
            ("since a week", datetime.now(UTC) - timedelta(days=7)),
            ("since a year", now - timedelta(days=365)),
        ):
            read = _edges(reader, since)
            found.append(await _measured(f"edges: {name}", read, runs, EDGES_TARGET))
    finally:
        await reader.close()
    return found


def _edges(reader: AuditReader, since: datetime | None) -> Read:
    return lambda: reader.edges(since)


async def _measured(name: str, read: Read, runs: int, target: float) -> Measured:
    seconds = []
    for _ in range(runs):
        started = time.perf_counter()
        await read()
        seconds.append(time.perf_counter() - started)
    return Measured(name, seconds, target)


async def _stream(dsn: str) -> float:
    """Records a second, as `zt audit export` reads them."""
    reader = AuditReader(dsn, stream_page=1000)
    started, count = time.perf_counter(), 0
    try:
        async for _ in reader.stream(Query()):
            count += 1
            if count == _STREAMED:
                break
    finally:
        await reader.close()
    return count / (time.perf_counter() - started)


def _line(one: Measured) -> str:
    p50, p99 = (f"{one.percentile(percent) * 1e3:7.1f}" for percent in (50, 99))
    return f"{one.name:28} p50 {p50} ms  p99 {p99} ms  target {one.target * 1e3:.0f} ms"


def _start(days: int) -> datetime:
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return today - timedelta(days=days - 1)


def _outcomes() -> list[Outcome]:
    return [_outcome(edge, pod) for pod in range(_PODS) for edge in range(_EDGES)]


def _outcome(edge: int, pod: int) -> Outcome:
    denied = edge % _DENIED_EVERY == _DENIED_EVERY - 1
    verdict = Verdict.DENY if denied else Verdict.ALLOW
    return Outcome(
        verdict=verdict,
        would_be=verdict,
        phase=Phase.ENFORCE,
        source_id=f"{_NAME}caller-{edge % 10}",
        source_pod=f"caller-{edge % 10}-7d4b9c-{edge:02}{pod}",
        source_node=f"node-{pod}",
        destination_id=f"{_NAME}service-{edge // 10}{edge % 4}",
        destination_port=8080,
        rule="default" if denied else f"rules/rule-{edge}",
        reason="no_rule" if denied else "rule",
        layer="evaluator",
        revision="0123456789abcdef",
    )


def _named(source: str) -> Outcome:
    return _outcome(_DENIED_EVERY - 1, 0)._replace(source_id=source, layer="handshake")


def _id(outcome: Outcome) -> UUID:
    return UUID(bytes=sha256(encode(outcome)).digest()[:16])


def _insert_outcomes(connection: Connection, outcomes: list[Outcome]) -> None:
    places = sql.SQL(", ").join(sql.Placeholder() * (len(COLUMNS) + 1))
    statement = sql.SQL("INSERT INTO zt_audit.outcome VALUES ({})").format(places)
    connection.cursor().executemany(statement, [[_id(one), *one] for one in outcomes])


def _version(admin: str) -> str:
    with psycopg.connect(admin) as connection:
        return connection.info.parameter_status("server_version") or "?"


if __name__ == "__main__":
    raise SystemExit(main())
