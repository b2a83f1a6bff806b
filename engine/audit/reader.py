"""Reads the audit trail: records by filter and page, all of them as a stream, and who called whom.

How a page is found is for ``engine.audit.pages``; here are the connections.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
from psycopg import AsyncConnection
from psycopg.pq import TransactionStatus
from psycopg.rows import class_row

from engine.audit import pages, queries
from engine.audit.outcome import AuditRecord
from engine.audit.pages import Connection
from engine.audit.query import Cursor, Query, parse_cursor

__all__ = ["AuditReader", "Cursor", "Edge", "Query", "parse_cursor"]

# Queries of people must not keep the database from the writer for longer. The server ends them;
# a server that is frozen is given up on a little later.
_AT_ONCE = 2
_STATEMENT_SECONDS = 5
_PATIENCE = _STATEMENT_SECONDS + 2
_CONNECTION: dict[str, Any] = {
    "connect_timeout": 2,
    "application_name": "zt-audit-reader",
    "autocommit": True,
    "prepare_threshold": None,  # partitions are pruned when a statement is planned
}
_BEGIN = (
    f"BEGIN READ ONLY; SET LOCAL statement_timeout = '{_STATEMENT_SECONDS}s'; "
    f"SET LOCAL idle_in_transaction_session_timeout = '{_PATIENCE}s'; "
    "SET LOCAL jit = off"
)
# Making so many records takes some 2 ms, in which the thread can do nothing else.
_STREAM_PAGE = 250
_HOURS_KEPT = timedelta(days=8)


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
    """The reading end of the trail, on few connections that are kept between queries.

    Readers never hold up the writer, and a database that is back is seen at once.
    """

    def __init__(self, dsn: str, stream_page: int = _STREAM_PAGE) -> None:
        """Nothing is opened before a query.

        A stream is read by ``stream_page`` records; more are quicker where nobody else waits.
        """
        self._dsn = dsn
        self._stream_page = stream_page
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._idle: list[Connection] = []

    async def close(self) -> None:
        """Disconnect; a later query connects again."""
        while self._idle:
            await self._idle.pop().close()

    async def records(self, query: Query) -> list[AuditRecord]:
        """A page of records, newest first.

        Raises:
            psycopg.Error: if the database does not answer.
        """
        async with self._transaction() as connection:
            return await pages.page(connection, query)

    async def stream(self, query: Query) -> AsyncGenerator[AuditRecord, None]:
        """All records, newest first, whatever the query's limit.

        Between pages the database is left alone, however slowly this is read.

        Raises:
            psycopg.Error: if the database does not answer.
        """
        query = replace(query, limit=self._stream_page)
        while True:
            page = await self.records(query)
            for record in page:
                yield record
            if len(page) < self._stream_page:
                return
            query = replace(query, after=Cursor(page[-1].time, page[-1].id))

    async def record(self, identifier: UUID) -> AuditRecord | None:
        """The record of that ID.

        Raises:
            psycopg.Error: if the database does not answer.
        """
        async with self._transaction() as connection:
            return await pages.record(connection, identifier)

    async def edges(self, since: datetime | None) -> list[Edge]:
        """Every edge seen, by source, destination and port.

        Counts begin with the hour of ``since``, or with its day (UTC) if that is over a week ago.

        Raises:
            psycopg.Error: if the database does not answer.
        """
        values = {"span": _span(since), "since": since}
        async with self._transaction() as connection:
            cursor = connection.cursor(row_factory=class_row(Edge))
            await cursor.execute(queries.EDGES, values)
            return await cursor.fetchall()

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Connection]:
        async with self._turns:
            try:
                async with asyncio.timeout(_PATIENCE):
                    connection = await self._begun()
                    try:
                        yield connection
                        await connection.execute("COMMIT")
                    finally:
                        await self._put_back(connection)
            except TimeoutError:
                raise psycopg.OperationalError("the database does not answer in time") from None

    async def _begun(self) -> Connection:
        """A connection in a transaction: one that is idle, or a new one if those are dead."""
        while self._idle:
            with contextlib.suppress(psycopg.OperationalError):
                return await _begin(self._idle.pop())
        return await _begin(await AsyncConnection.connect(self._dsn, **_CONNECTION))

    async def _put_back(self, connection: Connection) -> None:
        if connection.info.transaction_status is TransactionStatus.IDLE:
            self._idle.append(connection)
        else:
            await connection.close()


async def _begin(connection: Connection) -> Connection:
    """A connection, in a transaction from now on; closed if it can't be, or nobody waits."""
    try:
        await connection.execute(_BEGIN)
    except BaseException:
        await connection.close()
        raise
    return connection


def _span(since: datetime | None) -> str:
    """Which counts serve: those by hour are kept for some days."""
    if since is None:
        return "ever"
    return "hour" if datetime.now(UTC) - since < _HOURS_KEPT else "day"
