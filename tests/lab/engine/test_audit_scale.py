"""Five million decisions: pages, edges and streams stay quick, right and small."""

import asyncio
import resource
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from psycopg import sql

from benchmarks.audit_read import DAYS, RARE, ROWS, fill, measure, questions
from engine.audit.reader import AuditReader, Query
from tests.engine.conftest import Database
from zt.decide import Verdict

pytestmark = pytest.mark.timeout(300)

RUNS = 30
STREAM_MEBIBYTES = 64


def test_five_million_decisions(database: Database) -> None:
    """One after the other: filling takes most of the time."""
    fill(database.admin)
    check_times(database)
    asyncio.run(check_pages(database))
    asyncio.run(check_stream(database))


def check_times(database: Database) -> None:
    measured = asyncio.run(measure(database.dsn, ROWS, DAYS, RUNS))
    slow = [
        f"{one.name}: {one.percentile(95):.3f} s, at most {one.target} s"
        for one in measured
        if one.percentile(95) > one.target
    ]
    assert not slow
    assert len(measured) > len(questions())


async def check_pages(database: Database) -> None:
    """The same records as the plainest SQL finds."""
    reader = AuditReader(database.dsn)
    try:
        assert len(await reader.records(Query(source=RARE))) == 1
        for name, query in questions().items():
            if query.source == RARE or query.layer:
                continue
            found = [record.id for record in await reader.records(query)]
            assert found == plainly(database, query), name
    finally:
        await reader.close()


def plainly(database: Database, query: Query) -> list[object]:
    wanted = {
        "verdict": query.verdict,
        "source_id": query.source,
        "destination_id": query.destination,
        "rule": query.rule,
        "source_pod": query.pod,
        "reason": query.reason,
    }
    conditions = [
        sql.SQL("{} = {}").format(sql.Identifier(name), value)
        for name, value in wanted.items()
        if value is not None
    ]
    statement = sql.SQL(
        "SELECT id FROM zt_audit.trail WHERE {} ORDER BY time DESC, id DESC LIMIT {}"
    ).format(sql.SQL(" AND ").join([sql.SQL("true"), *conditions]), query.limit)
    with psycopg.connect(database.admin) as connection:
        return [row[0] for row in connection.execute(statement)]


async def check_stream(database: Database) -> None:
    """All that is denied in a day, in memory that does not grow with it."""
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    since = today - timedelta(days=3)
    query = Query(since=since, until=since + timedelta(days=1), verdict=Verdict.DENY)
    with psycopg.connect(database.admin) as connection:
        expected = connection.execute(
            "SELECT count(*) FROM zt_audit.trail WHERE time >= %s AND time < %s"
            " AND verdict = 'DENY'",
            [query.since, query.until],
        ).fetchone()
    reader = AuditReader(database.dsn)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    identifiers, last = 0, None
    try:
        async for record in reader.stream(query):
            key = (record.time, record.id)
            assert last is None or key < last
            identifiers, last = identifiers + 1, key
    finally:
        await reader.close()
    assert (identifiers,) == expected
    assert identifiers > 10_000
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown / 1024 < STREAM_MEBIBYTES
