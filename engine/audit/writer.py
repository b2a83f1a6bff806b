"""Writes decisions to the audit trail, and says whether they are there.

``write`` returns once the record is committed, so whoever answers after it has lost nothing. One
task commits whatever waits in one transaction: the cost of a commit is shared.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, timedelta
from operator import attrgetter
from typing import Any
from uuid import UUID

import psycopg
from psycopg import AsyncConnection, sql

from zt.decide import Verdict
from zt.model import Phase

# Envoy waits one second for an answer; a DENY that says why must arrive before.
PATIENCE = 0.7
BATCH = 500
BACKLOG = 10_000
TEXT_LIMIT = 512
_IDLE = 1.0
CONNECTION: Mapping[str, Any] = {
    "connect_timeout": 2,
    "application_name": "zt-policy-engine",
}

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One decision: a row of ``zt_audit.decision``, columns in this order.

    ``layer`` says who refused or allowed: ``evaluator``, ``api``, ``handshake``, ``rbac`` or
    ``listener``.
    ``latency_us`` is the time to decide, in microseconds.
    """

    id: UUID
    time: datetime
    verdict: Verdict
    would_be: Verdict
    phase: Phase
    source_id: str | None
    source_pod: str | None
    source_node: str | None
    destination_id: str
    destination_port: int
    rule: str
    reason: str
    layer: str
    revision: str
    latency_us: int


COLUMNS = tuple(item.name for item in fields(AuditRecord))
_row = attrgetter(*COLUMNS)

# Without a conflict target, so that the writer needs no right to SELECT. A record that is written
# again, because nobody saw its commit, is still one row.
_INSERT = sql.SQL(
    "INSERT INTO zt_audit.decision ({columns}) VALUES ({values}) ON CONFLICT DO NOTHING"
).format(
    columns=sql.SQL(", ").join(map(sql.Identifier, COLUMNS)),
    values=sql.SQL(", ").join(sql.Placeholder() * len(COLUMNS)),
)
_PARTITIONS = "SELECT zt_audit.ensure_partitions(%s, %s)"
_PARTITION_DAYS = 8  # from yesterday on: clocks differ


def clean(text: str | None) -> str | None:
    """Text from a peer as the trail keeps it: bounded, and nothing that a database refuses."""
    if text is None or (text.isprintable() and len(text) <= TEXT_LIMIT):
        return text
    return "".join(c if c.isprintable() else "\ufffd" for c in text[:TEXT_LIMIT])


class AuditWriter:
    """The writing end of the trail, on one connection of its own.

    No pool: one would wait longer and longer between its attempts to reach a lost database.
    """

    def __init__(self, dsn: str) -> None:
        """Nothing is opened before ``start``."""
        self._dsn = dsn
        self._connection: AsyncConnection | None = None
        self._partitioned: date | None = None
        self._queue: asyncio.Queue[tuple[AuditRecord, asyncio.Future[bool]]] = asyncio.Queue(
            BACKLOG
        )
        self._task: asyncio.Task[None] | None = None
        self.available = False

    async def start(self) -> None:
        """Begin to write; a database that is away is not waited for."""
        await self._insert([])
        self._task = asyncio.create_task(self._drain(), name="audit-writer")

    async def stop(self) -> None:
        """Disconnect. What still waits is answered ``False``."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        while not self._queue.empty():
            _settle(self._queue.get_nowait()[1], written=False)
        await self._disconnect()

    async def write(self, record: AuditRecord) -> bool:
        """Write a record; whether it is committed.

        ``False`` after ``PATIENCE`` seconds does not mean that the row will never appear.
        """
        written = asyncio.get_running_loop().create_future()
        try:
            self._queue.put_nowait((record, written))
            return await asyncio.wait_for(written, PATIENCE)
        except (asyncio.QueueFull, TimeoutError):
            return False

    async def _drain(self) -> None:
        while True:
            batch = [item for item in await self._next() if not item[1].done()]
            written = await self._insert([record for record, _ in batch])
            for _, future in batch:
                _settle(future, written=written)

    async def _next(self) -> list[tuple[AuditRecord, asyncio.Future[bool]]]:
        """What waits; nothing, if for a while nothing did."""
        try:
            batch = [await asyncio.wait_for(self._queue.get(), _IDLE)]
        except TimeoutError:
            return []
        while len(batch) < BATCH and not self._queue.empty():
            batch.append(self._queue.get_nowait())
        return batch

    async def _insert(self, records: list[AuditRecord]) -> bool:
        """Write records in one transaction; without any, see whether that would be possible."""
        try:
            async with asyncio.timeout(PATIENCE):
                connection = await self._connected()
                async with connection.transaction(), connection.cursor() as cursor:
                    if records:
                        await cursor.executemany(_INSERT, list(map(_row, records)))
                    else:
                        await cursor.execute("SELECT 1")
        except (psycopg.Error, TimeoutError) as error:
            self._note(error)
            await self._disconnect()
            return False
        self._note(None)
        return True

    async def _connected(self) -> AsyncConnection:
        """The connection, and partitions for the days ahead; the function is the schema's own."""
        if self._connection is None:
            self._connection = await AsyncConnection.connect(
                self._dsn, autocommit=True, **CONNECTION
            )
        today = datetime.now(UTC).date()
        if self._partitioned != today:
            first = today - timedelta(days=1)
            await self._connection.execute(_PARTITIONS, (first, _PARTITION_DAYS))
            self._partitioned = today
        return self._connection

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    def _note(self, error: Exception | None) -> None:
        """Say once when the trail is lost, and once when it is back."""
        if error is not None and self.available:
            _log.error("the audit trail cannot be written: %s", _sentence(error))
        elif error is None and not self.available:
            _log.info("the audit trail is written")
        self.available = error is None


def _settle(future: asyncio.Future[bool], *, written: bool) -> None:
    if not future.done():
        future.set_result(written)


def _sentence(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
