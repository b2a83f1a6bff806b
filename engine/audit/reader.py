"""Reads the audit trail: records by filter and page, and who called whom."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from psycopg import AsyncConnection, sql
from psycopg.rows import kwargs_row

from engine.audit import COLUMNS, CONNECTION, AuditRecord
from zt.decide import Verdict
from zt.model import Phase

_Row = TypeVar("_Row")

# Queries of people must not keep the database from the writer for longer.
_AT_ONCE = 2
_STATEMENT_TIMEOUT = "SET LOCAL statement_timeout = '5s'"
_CONDITIONS = {
    "since": "time >= %(since)s",
    "until": "time < %(until)s",
    "verdict": "verdict = %(verdict)s",
    "source": "source_id = %(source)s",
    "destination": "destination_id = %(destination)s",
    "rule": "rule = %(rule)s",
    "after": "(time, id) < (%(after_time)s, %(after_id)s)",
}
_RECORDS = sql.SQL(
    "SELECT {columns} FROM zt_audit.decision WHERE {where} "
    "ORDER BY time DESC, id DESC LIMIT %(limit)s"
)
_EDGES = sql.SQL(
    "SELECT source_id AS source, destination_id AS destination, destination_port AS port, "
    "count(*) FILTER (WHERE verdict = 'ALLOW') AS allowed, "
    "count(*) FILTER (WHERE verdict = 'DENY') AS denied, "
    "count(*) FILTER (WHERE verdict = 'ALLOW' AND would_be = 'DENY') AS would_deny, "
    "max(time) AS last_seen "
    "FROM zt_audit.decision WHERE {where} GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
)


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last record of a page; the next page begins after it."""

    time: datetime
    id: UUID

    def __str__(self) -> str:
        return base64.urlsafe_b64encode(f"{self.time.isoformat()} {self.id}".encode()).decode()


def parse_cursor(text: str) -> Cursor:
    """Read a cursor.

    Raises:
        ValueError: if it is none of ours.
    """
    try:
        time, _, identifier = base64.urlsafe_b64decode(text.encode()).decode().partition(" ")
        cursor = Cursor(datetime.fromisoformat(time), UUID(identifier))
    except (binascii.Error, UnicodeError, ValueError):
        raise ValueError("the cursor should be the 'next' of an earlier page") from None
    return cursor


@dataclass(frozen=True, slots=True)
class Query:
    """Which records; what is ``None`` does not matter. ``until`` is exclusive."""

    since: datetime | None = None
    until: datetime | None = None
    verdict: Verdict | None = None
    source: str | None = None
    destination: str | None = None
    rule: str | None = None
    after: Cursor | None = None
    limit: int = 100


@dataclass(frozen=True, slots=True)
class Edge:
    """Who called whom on which port: how often, and when last.

    ``would_deny`` counts those of ``allowed`` that enforcement would refuse.
    """

    source: str | None
    destination: str
    port: int
    allowed: int
    denied: int
    would_deny: int
    last_seen: datetime


class AuditReader:
    """The reading end of the trail: a connection for each query, and few at a time.

    Readers never hold up the writer, and a database that is back is seen at once.
    """

    def __init__(self, dsn: str) -> None:
        """Nothing is opened before a query."""
        self._dsn = dsn
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def records(self, query: Query) -> list[AuditRecord]:
        """Records, newest first.

        Raises:
            psycopg.Error: if the database does not answer.
        """
        values: dict[str, Any] = {
            "since": query.since,
            "until": query.until,
            "verdict": query.verdict,
            "source": query.source,
            "destination": query.destination,
            "rule": query.rule,
            "after": query.after,
        }
        parameters = values | {"limit": query.limit}
        if query.after:
            parameters |= {"after_time": query.after.time, "after_id": query.after.id}
        columns = sql.SQL(", ").join(map(sql.Identifier, COLUMNS))
        statement = _RECORDS.format(columns=columns, where=_where(values))
        return await self._fetch(_record, statement, parameters)

    async def edges(self, since: datetime | None) -> list[Edge]:
        """Every edge seen, by source, destination and port.

        Raises:
            psycopg.Error: if the database does not answer.
        """
        values = {"since": since}
        return await self._fetch(Edge, _EDGES.format(where=_where(values)), values)

    async def _fetch(
        self, row: Callable[..., _Row], statement: sql.Composed, parameters: Mapping[str, Any]
    ) -> list[_Row]:
        async with (
            self._turns,
            await AsyncConnection.connect(self._dsn, **CONNECTION) as connection,
            connection.cursor(row_factory=kwargs_row(row)) as cursor,
        ):
            await connection.execute(_STATEMENT_TIMEOUT)
            await cursor.execute(statement, parameters)
            return await cursor.fetchall()


def _record(*, verdict: str, would_be: str, phase: str, **others: Any) -> AuditRecord:  # noqa: ANN401
    """A row; the driver knows no enums of ours."""
    return AuditRecord(
        verdict=Verdict(verdict), would_be=Verdict(would_be), phase=Phase(phase), **others
    )


def _where(values: Mapping[str, Any]) -> sql.Composable:
    conditions = [
        sql.SQL(condition)
        for name, condition in _CONDITIONS.items()
        if values.get(name) is not None
    ]
    return sql.SQL(" AND ").join(conditions) if conditions else sql.SQL("true")
