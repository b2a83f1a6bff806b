"""Finds a page of the trail at a cost that follows the page, whatever the filter.

Matching outcomes may be frequent or rare, one or thousands, and nobody knows before. So it looks
among the latest decisions first: what is frequent is there. What is not is looked up by outcome,
and if those are many, only in days that have any.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection

from engine.audit import queries
from engine.audit.outcome import COLUMNS, AuditRecord, Outcome, writer_and_sequence
from engine.audit.query import Cursor, Query
from zt.decide import Verdict
from zt.model import Phase

Connection = AsyncConnection[tuple[Any, ...]]
Rows = list[tuple[Any, ...]]

# An outcome's share of a page: at first some times its part, then more.
_SHARES, _MORE = 4, 8
# Looking up one outcome costs some microseconds in each day's index.
_FEW = 64
_DAY = timedelta(days=1)
_OTHERS = len(COLUMNS) - 3


async def page(connection: Connection, query: Query) -> list[AuditRecord]:
    """The newest records that match, up to the query's limit; in a transaction."""
    return list(map(_record, await _matching(connection, query)))


async def record(connection: Connection, identifier: UUID) -> AuditRecord | None:
    """The record of that ID; its batch tells where to look."""
    writer, sequence = writer_and_sequence(identifier)
    values = {"id": identifier, "writer": writer, "sequence": sequence}
    rows = await _rows(connection, (queries.RECORD, values))
    return _record(rows[0]) if rows else None


async def _matching(connection: Connection, query: Query) -> Rows:
    statement = queries.outcomes(query)
    if statement is None:
        return await _rows(connection, queries.latest(query))
    outcomes = [row[0] for row in await _rows(connection, statement)]
    if len(outcomes) == queries.MANY:
        return await _of_many(connection, query)
    if not outcomes:
        return []
    rows = await _rows(connection, queries.among_latest(query, outcomes))
    if len(rows) == query.limit:
        return rows
    if len(outcomes) <= _FEW:
        return await _of_each(connection, query, outcomes)
    return await _by_day(connection, query, outcomes)


async def _of_many(connection: Connection, query: Query) -> Rows:
    """Of so many outcomes that they are not known: among the latest, then among more before."""
    await connection.execute(queries.JOINED)
    rows: Rows = []
    number = queries.examined(query)
    while True:
        rows += await _rows(connection, queries.among_latest_joined(query, number))
        last = await _rows(connection, queries.last_examined(query, number))
        if len(rows) >= query.limit or not last:
            return rows[: query.limit]
        query = replace(query, after=Cursor(*last[0]))
        number *= _MORE


async def _by_day(connection: Connection, query: Query, outcomes: list[UUID]) -> Rows:
    rows: Rows = []
    while len(rows) < query.limit:
        days = await _rows(connection, queries.latest_day(query, outcomes))
        if not days:
            break
        day = days[0][0]
        within = replace(
            query,
            since=max(filter(None, (query.since, day))),
            until=min(filter(None, (query.until, day + _DAY))),
            limit=query.limit - len(rows),
        )
        rows += await _of_each(connection, within, outcomes)
        query = replace(query, until=day)
    return rows


async def _of_each(connection: Connection, query: Query, outcomes: list[UUID]) -> Rows:
    """From the latest of each outcome: of more and more, until they make a page."""
    share = 1 + _SHARES * query.limit // len(outcomes)
    while True:
        rows = await _rows(connection, queries.of_each(query, outcomes, share))
        if len(rows) == query.limit or not rows or not rows[-1][-1]:
            return rows
        share *= _MORE


async def _rows(connection: Connection, statement: queries.Statement) -> Rows:
    cursor = await connection.execute(*statement)
    return await cursor.fetchall()


def _record(row: tuple[Any, ...]) -> AuditRecord:
    """A row: ID, time, latency, and the outcome's columns; the driver knows no enums of ours."""
    identifier, time, latency_us, verdict, would_be, phase, *others = row
    outcome = Outcome(Verdict(verdict), Verdict(would_be), Phase(phase), *others[:_OTHERS])
    return AuditRecord(identifier, time, latency_us, outcome)
