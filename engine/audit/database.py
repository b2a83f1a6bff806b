"""The drainer's statements: a batch is written whole, in one transaction, or not at all."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from threading import Timer
from typing import Any

import psycopg
from psycopg import errors, sql

from engine.audit.chain import EMPTY
from engine.audit.outcome import COLUMNS
from engine.audit.rows import Batch, moment

# A server that does not answer for so long is given up; seconds.
PATIENCE = 15.0
_CONNECT_TIMEOUT = 5
_EPOCH_DAY = date(1970, 1, 1)


def _value(index: int) -> sql.Composed:
    """A column of an outcome, from its place in the encoding."""
    kind = "integer" if COLUMNS[index] == "destination_port" else "text"
    return sql.SQL("(value ->> {})::{}").format(sql.Literal(index), sql.SQL(kind))


# The server gives up before: what a drainer holds must not be held for ever if it is frozen.
# What was committed must be on the disk, because the spool is deleted then.
_SETTINGS = """
SET statement_timeout = '10s';
SET lock_timeout = '5s';
SET idle_in_transaction_session_timeout = '10s';
SET TimeZone = 'UTC';
SELECT set_config('synchronous_commit', 'on', false)
  WHERE current_setting('synchronous_commit') IN ('off', 'local')
"""
# From their canonical encodings. Without a conflict target, so that the writer needs no right to
# SELECT; in the same order by all writers, so that none waits for another in a circle.
# OFFSET 0 keeps the encoding from being parsed anew for each column.
_OUTCOMES = sql.SQL(
    "INSERT INTO zt_audit.outcome (id, {columns})"
    " SELECT left(encode(sha256(convert_to(outcome::text, 'UTF8')), 'hex'), 32)::uuid, {values}"
    " FROM (SELECT outcome, outcome::text::jsonb AS value"
    "  FROM json_array_elements(%s::json) AS each (outcome) OFFSET 0) AS new"
    " ORDER BY 1 ON CONFLICT DO NOTHING"
).format(
    columns=sql.SQL(", ").join(map(sql.Identifier, COLUMNS)),
    values=sql.SQL(", ").join(map(_value, range(len(COLUMNS)))),
)
_COPY = "COPY zt_audit.decision (id, time, outcome, latency_us) FROM STDIN (FORMAT BINARY)"
_BATCH = "SELECT number, chain FROM zt_audit.add_batch(%s, %s, %s, %s, %s, %s)"
_COUNTS = (
    "SELECT zt_audit.add_counts(%s::text[], %s::text[], %s::integer[], %s::bigint[],"
    " %s::bigint[], %s::bigint[], %s::timestamptz[])"
)
_RECORDED = "SELECT zt_audit.last_recorded(%s)"
_NOW = "SELECT (extract(epoch FROM now()) * 1000000)::bigint"
_AHEAD = "SELECT zt_audit.ensure_partitions((now() AT TIME ZONE 'UTC')::date - 1, 8)"
_DAY = "SELECT zt_audit.ensure_partitions(%s, 1)"


@dataclass(frozen=True, slots=True)
class Head:
    """The end of the chain: the number of the last batch, and the chain after it."""

    number: int
    chain: bytes


class TrailDatabase:
    """A connection of the writer's role.

    Every method raises ``psycopg.Error`` if the database refuses, is away or does not answer.
    """

    def __init__(self, dsn: str) -> None:
        """Connect."""
        self._connection = psycopg.connect(
            dsn,
            autocommit=True,
            prepare_threshold=None,
            connect_timeout=_CONNECT_TIMEOUT,
            application_name="zt-drainer",
        )
        with self._limited():
            self._connection.execute(_SETTINGS)

    def close(self) -> None:
        """Disconnect."""
        self._connection.close()

    def last_recorded(self, writer: int) -> int:
        """The last record of a writer that the trail has; 0 if none."""
        return int(self._value(_RECORDED, [writer]))

    def now_us(self) -> int:
        """The time by the database, in microseconds since the epoch."""
        return int(self._value(_NOW))

    def make_partitions_ahead(self) -> None:
        """Have partitions made for the days to come."""
        with self._limited():
            self._connection.execute(_AHEAD)

    def make_partition(self, day: int) -> bool:
        """Have a partition for a day, counted from the epoch; whether that is allowed."""
        try:
            wanted = _EPOCH_DAY + timedelta(day)
        except OverflowError:
            return False
        try:
            with self._limited():
                self._connection.execute(_DAY, [wanted])
        except (errors.InvalidParameterValue, errors.DatetimeFieldOverflow):
            return False
        return True

    def write(self, writer: int, batch: Batch) -> Head:
        """Write a batch."""
        with self._limited(), self._connection.transaction(), self._connection.cursor() as cursor:
            if batch.new:
                cursor.execute(_OUTCOMES, [batch.new_outcomes()])
            with cursor.copy(_COPY) as copy:
                copy.write(batch.copy)
            # Late, since nobody else can enter a batch from here to the commit.
            since, until = moment(batch.since_us), moment(batch.until_us)
            head = self._enter(writer, batch.first, batch.last, (since, until), batch.root)
            cursor.execute(_COUNTS, batch.edges())
        return head

    def write_gap(self, writer: int, first: int, last: int) -> Head:
        """Enter records as lost."""
        with self._limited(), self._connection.transaction():
            return self._enter(writer, first, last, (None, None), EMPTY)

    def _enter(
        self,
        writer: int,
        first: int,
        last: int,
        span: tuple[datetime | None, datetime | None],
        root: bytes,
    ) -> Head:
        row = self._connection.execute(_BATCH, [writer, first, last, *span, root]).fetchone()
        assert row is not None  # noqa: S101 - a function with OUT parameters gives one row
        return Head(row[0], row[1])

    def _value(self, query: Any, values: list[object] | None = None) -> Any:  # noqa: ANN401 - of any type
        with self._limited():
            row = self._connection.execute(query, values).fetchone()
        assert row is not None  # noqa: S101 - they select one value
        return row[0]

    @contextmanager
    def _limited(self) -> Iterator[None]:
        """Cut the connection if this takes too long: a frozen server keeps quiet for ever."""
        with socket.socket(fileno=os.dup(self._connection.fileno())) as held:
            timer = Timer(PATIENCE, _cut, [held])
            timer.daemon = True
            timer.start()
            try:
                yield
            finally:
                timer.cancel()


def _cut(held: socket.socket) -> None:
    with suppress(OSError):
        held.shutdown(socket.SHUT_RDWR)
