"""The trail's writing and reading ends, on a real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from engine.audit import PATIENCE, AuditRecord, AuditWriter
from engine.trail import AuditReader, Cursor, Edge, Query, parse_cursor
from tests.engine.conftest import Database
from tests.engine.samples import API, DB, WEB, eventually
from zt.decide import Verdict
from zt.model import Phase

pytestmark = pytest.mark.anyio

RECORD = AuditRecord(
    id=UUID(int=0),
    time=datetime(2026, 1, 1, tzinfo=UTC),
    verdict=Verdict.ALLOW,
    would_be=Verdict.ALLOW,
    phase=Phase.ENFORCE,
    source_id=WEB,
    source_pod="web-1",
    source_node="n1",
    destination_id=DB,
    destination_port=5432,
    rule="core/rule-1",
    reason="rule",
    layer="evaluator",
    revision="0123456789abcdef",
    latency_us=42,
)


def record(**changes: object) -> AuditRecord:
    fresh = {"id": uuid4(), "time": datetime.now(UTC)}
    return replace(RECORD, **(fresh | changes))  # type: ignore[arg-type]


@asynccontextmanager
async def writing(dsn: str) -> AsyncIterator[AuditWriter]:
    writer = AuditWriter(dsn)
    await writer.start()
    try:
        yield writer
    finally:
        await writer.stop()


async def write_all(database: Database, *records: AuditRecord) -> None:
    async with writing(database.dsn) as writer:
        assert all(await asyncio.gather(*map(writer.write, records)))


def take_away(database: Database) -> None:
    """Nobody connects any more, and who was connected is not."""
    name = sql.Identifier(database.name)
    with psycopg.connect(
        make_conninfo(database.admin, dbname="postgres"), autocommit=True
    ) as admin:
        admin.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(name))
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
            (database.name,),
        )


def give_back(database: Database) -> None:
    name = sql.Identifier(database.name)
    with psycopg.connect(
        make_conninfo(database.admin, dbname="postgres"), autocommit=True
    ) as admin:
        admin.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(name))


async def test_what_is_written_is_committed_when_the_writer_says_so(database: Database) -> None:
    one = record(source_id=None, source_pod=None, source_node=None)
    async with writing(database.dsn) as writer:
        assert await writer.write(one)
        assert database.rows() == 1
        assert writer.available
    reader = AuditReader(database.dsn)
    assert await reader.records(Query()) == [one]


async def test_many_at_once_are_all_committed(database: Database) -> None:
    await write_all(database, *(record() for _ in range(2000)))
    assert database.rows() == 2000


async def test_a_record_that_is_written_twice_is_one_row(database: Database) -> None:
    one = record()
    await write_all(database, one)
    await write_all(database, one)
    assert database.rows() == 1


async def test_a_database_that_is_not_there_is_told_in_time(tmp_path: Path) -> None:
    async with writing(f"host={tmp_path} dbname=nowhere user=zt") as writer:
        started = perf_counter()
        assert not await writer.write(record())
        assert perf_counter() - started < PATIENCE + 0.5
        assert not writer.available


async def test_a_lost_database_is_noticed_and_found_again(database: Database) -> None:
    async with writing(database.dsn) as writer:
        assert await writer.write(record())
        take_away(database)
        assert not await writer.write(record())
        assert not writer.available
        give_back(database)
        await eventually(lambda: writer.write(record()))
        assert writer.available


async def test_a_revoked_grant_is_told(database: Database) -> None:
    async with writing(database.dsn) as writer:
        with psycopg.connect(database.admin) as admin:
            admin.execute("REVOKE INSERT ON zt_audit.decision FROM zt_writer")
        assert not await writer.write(record())
    assert database.rows() == 0


async def test_stopping_answers_whoever_still_waits(database: Database) -> None:
    writer = AuditWriter(database.dsn)
    await writer.start()
    with psycopg.connect(database.admin) as admin:
        admin.execute("LOCK TABLE zt_audit.decision IN ACCESS EXCLUSIVE MODE")
        waiting = asyncio.create_task(writer.write(record()))
        await asyncio.sleep(0.05)
        await writer.stop()
        assert await waiting is False


async def test_records_are_found_by_each_filter(database: Database) -> None:
    now = datetime.now(UTC)
    old = record(time=now - timedelta(hours=1))
    denied = record(verdict=Verdict.DENY, would_be=Verdict.DENY, rule="default", time=now)
    other = record(source_id=API, time=now - timedelta(minutes=1))
    await write_all(database, old, denied, other)
    reader = AuditReader(database.dsn)
    assert await reader.records(Query()) == [denied, other, old]
    assert await reader.records(Query(verdict=Verdict.DENY)) == [denied]
    assert await reader.records(Query(source=API)) == [other]
    assert await reader.records(Query(source=WEB, destination=DB)) == [denied, old]
    assert await reader.records(Query(destination=API)) == []
    assert await reader.records(Query(rule="default")) == [denied]
    assert await reader.records(Query(since=other.time)) == [denied, other]
    assert await reader.records(Query(until=other.time)) == [old]


async def test_pages_follow_each_other_without_gap_or_overlap(database: Database) -> None:
    """Also where many records have one time."""
    now = datetime.now(UTC)
    written = [record(time=now - timedelta(seconds=number // 4)) for number in range(23)]
    await write_all(database, *written)
    found: list[AuditRecord] = []
    reader = AuditReader(database.dsn)
    after = None
    while page := await reader.records(Query(after=after, limit=5)):
        found += page
        after = parse_cursor(str(Cursor(page[-1].time, page[-1].id)))
    assert found == sorted(written, key=lambda item: (item.time, item.id), reverse=True)


@pytest.mark.parametrize("text", ["", "x", "AAAA", "4pyTIOKckw==", "not base64!"])
def test_a_foreign_cursor_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="the 'next' of an earlier page"):
        parse_cursor(text)


async def test_edges_are_counted(database: Database) -> None:
    now = datetime.now(UTC)
    await write_all(
        database,
        record(time=now - timedelta(minutes=2)),
        record(time=now),
        record(verdict=Verdict.DENY, would_be=Verdict.DENY, time=now - timedelta(minutes=1)),
        record(source_id=API, would_be=Verdict.DENY, phase=Phase.OBSERVE, time=now),
        record(source_id=None, verdict=Verdict.DENY, would_be=Verdict.DENY, time=now),
    )
    reader = AuditReader(database.dsn)
    assert await reader.edges(None) == [
        Edge(API, DB, 5432, allowed=1, denied=0, would_deny=1, last_seen=now),
        Edge(WEB, DB, 5432, allowed=2, denied=1, would_deny=0, last_seen=now),
        Edge(None, DB, 5432, allowed=0, denied=1, would_deny=0, last_seen=now),
    ]
    assert [edge.allowed for edge in await reader.edges(now)] == [1, 1, 0]
