"""The reading end of the trail, on a real PostgreSQL."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from time import monotonic
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from engine.audit import queries
from engine.audit import reader as reader_module
from engine.audit.outcome import AuditRecord, Outcome, record_id
from engine.audit.reader import AuditReader, Cursor, Edge, Query, parse_cursor
from tests.engine.audit.ledger import DENIED, OUTCOME, WRITER, Ledger, now
from tests.engine.conftest import Database
from tests.engine.samples import API, DB, WEB
from zt.decide import Verdict
from zt.model import Phase

pytestmark = pytest.mark.anyio


@pytest.fixture
def ledger(database: Database) -> Iterator[Ledger]:
    ledger = Ledger.of(database.admin)
    ledger.days(now().date() - timedelta(days=12), 14)
    yield ledger
    ledger.close()


@pytest.fixture
async def reader(database: Database) -> AsyncIterator[AuditReader]:
    reader = AuditReader(make_conninfo(database.dsn))
    yield reader
    await reader.close()


def newest_first(records: list[AuditRecord]) -> list[AuditRecord]:
    return sorted(records, key=lambda record: (record.time, record.id), reverse=True)


async def test_a_record_comes_back_as_it_was(reader: AuditReader, ledger: Ledger) -> None:
    nobody = DENIED._replace(
        source_id=None, source_pod=None, source_node=None, on_behalf_of="agent:helper"
    )
    one, two = ledger.add((now(), nobody), (now() + timedelta(seconds=1), OUTCOME))
    assert await reader.records(Query()) == [two, one]
    assert await reader.record(one.id) == one
    assert await reader.record(two.id) == two


@pytest.mark.parametrize(
    "identifier", [record_id(WRITER, 9), record_id(7, 1), uuid4(), UUID(int=0)]
)
async def test_an_id_that_nobody_has_has_no_record(
    reader: AuditReader, ledger: Ledger, identifier: UUID
) -> None:
    ledger.add((now(), OUTCOME))
    assert await reader.record(identifier) is None


async def test_records_are_found_by_each_filter(reader: AuditReader, ledger: Ledger) -> None:
    at = now()
    other = OUTCOME._replace(source_id=API, source_pod="api-1")
    nobody = DENIED._replace(
        source_id=None, source_pod=None, layer="handshake", reason="no_certificate"
    )
    old, otherwise, denied, unknown = ledger.add(
        (at - timedelta(hours=30), OUTCOME),
        (at - timedelta(minutes=1), other),
        (at, DENIED),
        (at + timedelta(seconds=1), nobody),
    )
    for query, expected in (
        (Query(verdict=Verdict.DENY), [unknown, denied]),
        (Query(source=API), [otherwise]),
        (Query(source=""), [unknown]),
        (Query(source=WEB, destination=DB), [denied, old]),
        (Query(destination=API), []),
        (Query(rule="default", source=WEB), [denied]),
        (Query(pod="api-1"), [otherwise]),
        (Query(layer="handshake"), [unknown]),
        (Query(reason="no_certificate"), [unknown]),
        (Query(since=otherwise.time), [unknown, denied, otherwise]),
        (Query(until=otherwise.time), [old]),
        (Query(since=otherwise.time, until=denied.time, verdict=Verdict.ALLOW), [otherwise]),
    ):
        assert await reader.records(query) == expected, query


def some_outcomes() -> list[Outcome]:
    return [
        OUTCOME._replace(source_pod=f"web-{pod}", verdict=verdict)
        for pod in range(6)
        for verdict in Verdict
    ]


FILTERS: tuple[dict[str, Any], ...] = (
    {},
    {"verdict": Verdict.DENY},
    {"pod": "web-0"},
    {"pod": "web-5"},
    {"pod": "web-5", "verdict": Verdict.DENY},
    {"pod": "web-9"},
    {"source": WEB},
)


def matches(record: AuditRecord, wanted: dict[str, Any]) -> bool:
    names = {"verdict": "verdict", "pod": "source_pod", "source": "source_id"}
    return all(getattr(record.outcome, names[name]) == value for name, value in wanted.items())


def many_decisions() -> list[tuple[datetime, Outcome]]:
    """Outcomes differ in frequency: those of the last days are rare before, and the reverse.

    Many have one time.
    """
    random, outcomes, at = Random(7), some_outcomes(), now()  # noqa: S311 - not for secrets
    weights = [3**-index for index in range(len(outcomes))]
    drawn = random.choices(outcomes, weights, k=150) + random.choices(
        outcomes[::-1], weights, k=150
    )
    times = [at - timedelta(hours=2) * (number // 4) for number in range(300)]
    return list(zip(sorted(times), drawn, strict=True))


@pytest.mark.parametrize("examined", [1, 7, 50_000])
@pytest.mark.parametrize(
    "known", [{}, {"pages._FEW": 0}, {"queries.MANY": 2}], ids=["few", "some", "many"]
)
async def test_pages_follow_each_other_without_gap_or_overlap(
    reader: AuditReader,
    ledger: Ledger,
    monkeypatch: pytest.MonkeyPatch,
    known: dict[str, int],
    examined: int,
) -> None:
    """However they are found."""
    for name, number in known.items():
        monkeypatch.setattr(f"engine.audit.{name}", number)
    monkeypatch.setattr(queries, "_EXAMINED", examined)
    monkeypatch.setattr(queries, "_EXAMINED_PER_RECORD", 0)
    records = newest_first(ledger.add(*many_decisions()))
    for wanted in FILTERS:
        expected = [record for record in records if matches(record, wanted)]
        assert await all_pages(reader, Query(limit=7, **wanted)) == expected, wanted
        since, until = records[200].time, records[20].time
        within = [record for record in expected if since <= record.time < until]
        bounded = Query(limit=40, since=since, until=until, **wanted)
        assert await all_pages(reader, bounded) == within, wanted


async def all_pages(reader: AuditReader, query: Query) -> list[AuditRecord]:
    found: list[AuditRecord] = []
    while page := await reader.records(query):
        found += page
        after = parse_cursor(str(Cursor(page[-1].time, page[-1].id)))
        query = replace(query, after=after)
    return found


async def test_a_stream_has_all_of_them(database: Database, ledger: Ledger) -> None:
    reader = AuditReader(database.dsn, stream_page=10)
    at = now()
    pairs = [(at + timedelta(milliseconds=n), OUTCOME if n % 3 else DENIED) for n in range(60)]
    records = ledger.add(*pairs)
    assert [one async for one in reader.stream(Query(limit=1))] == records[::-1]
    denied = [one async for one in reader.stream(Query(verdict=Verdict.DENY))]
    assert denied == [one for one in records[::-1] if one.outcome == DENIED]
    await reader.close()


async def test_a_stream_that_nobody_reads_on_holds_nothing(
    reader: AuditReader, ledger: Ledger
) -> None:
    ledger.add(*((now(), OUTCOME) for _ in range(3)))
    streams = [reader.stream(Query()) for _ in range(5)]
    for stream in streams:
        await anext(stream)
    busy = ledger.connection.execute(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE application_name = 'zt-audit-reader' AND state <> 'idle'"
        " AND datname = current_database()"
    ).fetchone()
    assert busy == (0,)
    assert len(await reader.records(Query())) == 3


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "AAAA",
        "4pyTIOKckw==",
        "not base64!",
        "MjAyNi0wMS0wMSAwMDAwMDAwMC0wMDAwLTAwMDAtMDAwMC0wMDAwMDAwMDAwMDA=",
    ],
)
def test_a_foreign_cursor_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="the 'next' of an earlier page"):
        parse_cursor(text)


async def test_edges_are_counted(reader: AuditReader, ledger: Ledger) -> None:
    at = now()
    observed = OUTCOME._replace(source_id=API, would_be=Verdict.DENY, phase=Phase.OBSERVE)
    nobody = DENIED._replace(source_id=None)
    ledger.add(
        (at - timedelta(days=11), OUTCOME),
        (at - timedelta(days=2), OUTCOME),
        (at - timedelta(days=2), DENIED),
        (at, observed),
        (at, nobody),
    )
    before, recent = at - timedelta(days=2), at - timedelta(hours=1)
    web = Edge(WEB, DB, 5432, allowed=2, denied=1, would_deny=0, last_seen=before)
    others = [
        Edge(API, DB, 5432, allowed=1, denied=0, would_deny=1, last_seen=at),
        Edge(None, DB, 5432, allowed=0, denied=1, would_deny=0, last_seen=at),
    ]
    assert await reader.edges(None) == [others[0], web, others[1]]
    assert await reader.edges(at - timedelta(days=20)) == [others[0], web, others[1]]
    within_hours = replace(web, allowed=1)
    assert await reader.edges(at - timedelta(days=7)) == [others[0], within_hours, others[1]]
    within_days = at - timedelta(days=9)
    assert await reader.edges(within_days) == [others[0], within_hours, others[1]]
    assert await reader.edges(recent) == others
    assert await reader.edges(at + timedelta(hours=2)) == []


async def test_connections_are_few_and_kept(reader: AuditReader, ledger: Ledger) -> None:
    ledger.add((now(), OUTCOME))
    await asyncio.gather(*(reader.records(Query()) for _ in range(20)))
    backends = ledger.connection.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'zt-audit-reader'"
        " AND datname = current_database()"
    ).fetchone()
    assert backends == (2,)


async def test_a_database_that_is_back_is_seen_at_once(
    reader: AuditReader, ledger: Ledger, database: Database
) -> None:
    records = ledger.add((now(), OUTCOME))
    await asyncio.gather(*(reader.records(Query()) for _ in range(2)))
    with psycopg.connect(
        make_conninfo(database.admin, dbname="postgres"), autocommit=True
    ) as admin:
        admin.execute(f"ALTER DATABASE {database.name} ALLOW_CONNECTIONS false".encode())
        end_backends(admin, database)
        with pytest.raises(psycopg.OperationalError):
            await reader.records(Query())
        admin.execute(f"ALTER DATABASE {database.name} ALLOW_CONNECTIONS true".encode())
    assert await reader.records(Query()) == records


async def test_ended_backends_are_not_noticed(
    reader: AuditReader, ledger: Ledger, database: Database
) -> None:
    records = ledger.add((now(), OUTCOME))
    await asyncio.gather(*(reader.records(Query()) for _ in range(2)))
    end_backends(ledger.connection, database)
    assert await reader.records(Query()) == records


def end_backends(admin: psycopg.Connection, database: Database) -> None:
    admin.execute(
        "SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity"
        " WHERE datname = %s AND pid <> pg_backend_pid()",
        [database.name],
    )


async def test_a_frozen_database_is_given_up_on(
    reader: AuditReader, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_module, "_PATIENCE", 0.3)
    records = ledger.add((now(), OUTCOME))
    assert await reader.records(Query()) == records
    backend = ledger.connection.execute(
        "SELECT pid FROM pg_stat_activity WHERE application_name = 'zt-audit-reader'"
        " AND datname = current_database()"
    ).fetchone()
    assert backend is not None
    os.kill(backend[0], signal.SIGSTOP)
    started = monotonic()
    try:
        with pytest.raises(psycopg.OperationalError, match="does not answer"):
            await reader.records(Query())
        assert monotonic() - started < 6
    finally:
        os.kill(backend[0], signal.SIGCONT)
    assert await reader.records(Query()) == records


async def test_a_cancelled_query_leaves_no_connection_in_use(
    reader: AuditReader, ledger: Ledger
) -> None:
    records = ledger.add((now(), OUTCOME))
    with ledger.connection.transaction():
        ledger.connection.execute("LOCK TABLE zt_audit.outcome IN ACCESS EXCLUSIVE MODE")
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(reader.records(Query(source=WEB)), 0.05)
    assert await reader.records(Query(source=WEB)) == records


async def test_a_reader_cannot_write(reader: AuditReader, ledger: Ledger) -> None:
    ledger.add((now(), OUTCOME))
    async with reader._transaction() as connection:
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            await connection.execute("INSERT INTO zt_audit.outcome DEFAULT VALUES")
        await connection.execute("ROLLBACK")


async def test_nothing_older_than_utc_is_meant_by_since() -> None:
    """Spans follow UTC, whatever the zone of ``since``."""
    eight_days = datetime.now(UTC) - timedelta(days=8, seconds=1)
    assert reader_module._span(eight_days) == "day"
    assert reader_module._span(eight_days + timedelta(minutes=1)) == "hour"
    assert reader_module._span(None) == "ever"
