"""What verification reads of the trail: batches, their records, outcomes; as little at a time.

Nothing is taken for granted that a superuser can change: times may be out of reach, numbers out of
range. No statement lasts long or holds a snapshot, so that nobody is stalled, whatever the size.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, LiteralString, NamedTuple, Self
from uuid import UUID

import psycopg
from psycopg import sql

from engine.audit.chain import Link
from engine.audit.outcome import COLUMNS, WRITER_BITS, Outcome, record_id, writer_and_sequence

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY_US = 86_400_000_000
_MAX_WRITER = (1 << WRITER_BITS) - 1
_MAX_SEQUENCE = (1 << 62) - 1

_SETTINGS = (
    "SET default_transaction_read_only = on; SET TimeZone = 'UTC'; SET jit = off; "
    # The primary key serves, also where there are no statistics.
    "SET enable_seqscan = off"
)
_BATCH = sql.SQL(
    "SELECT number, writer, first, last, since IS NULL AND until IS NULL, "
    "CASE WHEN since BETWEEN '0002-01-01' AND '9998-12-31' THEN since END, "
    "CASE WHEN until BETWEEN '0002-01-01' AND '9998-12-31' THEN until END, root, chain "
    "FROM zt_audit.batch "
)
_BATCHES = _BATCH + sql.SQL("WHERE number > %s AND number <= %s ORDER BY number LIMIT 1000")
_BATCH_OF = _BATCH + sql.SQL("WHERE writer = %s AND first <= %s AND last >= %s LIMIT 1")
# In the order of the records that they are of.
_BATCHES_OF_DAY = _BATCH + sql.SQL("WHERE until >= %s AND since < %s ORDER BY writer, first")
# The outer bounds are for the planner, which knows by them of which days this is.
_RECORDS = """
COPY (
  SELECT wanted.number, found.id, found.time,
    coalesce(found.outcome, '00000000-0000-0000-0000-000000000000'), coalesce(latency_us, -1)
  FROM unnest(%(numbers)s::bigint[], %(since)s::timestamptz[], %(until)s::timestamptz[],
      %(low)s::uuid[], %(high)s::uuid[]) AS wanted (number, since, until, low, high)
    JOIN LATERAL (
      SELECT id, time, outcome, latency_us FROM zt_audit.decision
      WHERE time BETWEEN %(earliest)s AND %(latest)s
        AND time BETWEEN wanted.since AND wanted.until AND id BETWEEN wanted.low AND wanted.high
    ) AS found ON true
) TO STDOUT (FORMAT BINARY)
"""
_COPY_HEADER = 19
_COPY_ROW = struct.Struct("!hiqiQQiqi16sii")
# PostgreSQL counts microseconds from 2000.
_EPOCH_US = (datetime(2000, 1, 1, tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)
_OUTCOME = sql.SQL("SELECT id, {} FROM zt_audit.outcome ").format(
    sql.SQL(", ").join(map(sql.Identifier, COLUMNS))
)
_OUTCOMES = _OUTCOME + sql.SQL("WHERE id = ANY(%s)")
_ALL_OUTCOMES = _OUTCOME + sql.SQL("WHERE %s::uuid IS NULL OR id > %s ORDER BY id LIMIT 1000")
_PARTITIONS = """
SELECT relname, pg_get_expr(relpartbound, pg_class.oid) FROM pg_inherits
JOIN pg_class ON pg_class.oid = inhrelid WHERE inhparent = 'zt_audit.decision'::regclass ORDER BY 1
"""
_BOUNDS = re.compile(
    r"FOR VALUES FROM \('([\d-]{10}) 00:00:00\+00'\) TO \('([\d-]{10}) 00:00:00\+00'\)"
)
_HEAD = "SELECT coalesce(min(number), 1), coalesce(max(number), 0) FROM zt_audit.batch"
_COUNT = (
    "SELECT count(*), (SELECT coalesce(max(number), 0) FROM zt_audit.batch) "
    "FROM zt_audit.decision WHERE time >= %s AND time < %s"
)


class Batch(NamedTuple):
    """A row of ``zt_audit.batch``.

    Times are ``None`` in a batch of records that were ``lost``, and where they are out of reach.
    """

    number: int
    writer: int
    first: int
    last: int
    lost: bool
    since: datetime | None
    until: datetime | None
    root: bytes
    chain: bytes

    @property
    def link(self) -> Link:
        """What the chain has of it."""
        numbers = (self.number, self.writer, self.first, self.last)
        return Link(*numbers, self.since, self.until, self.root)

    @property
    def times(self) -> tuple[datetime, datetime]:
        """The first and the last time of its records: of a sound batch that was not lost.

        Raises:
            ValueError: if it is none.
        """
        if self.since is None or self.until is None:
            raise ValueError(f"batch {self.number} has no times")
        return self.since, self.until

    @property
    def is_sound(self) -> bool:
        """Whether there may be records of it: its numbers and times are such as can be."""
        numbers = 0 <= self.writer <= _MAX_WRITER and 1 <= self.first <= self.last <= _MAX_SEQUENCE
        return numbers and (self.lost or (self.since is not None and self.until is not None))


class Row(NamedTuple):
    """A row of ``zt_audit.decision``, in microseconds; the outcome by its ID."""

    sequence: int
    time_us: int
    latency_us: int
    outcome: bytes


class Stray(NamedTuple):
    """A record that is of no batch at its time; ``batch`` is of its number, at another time."""

    id: UUID
    time: datetime
    batch: Batch | None


@dataclass
class Evidence:
    """The trail's tables, through one connection that only reads."""

    connection: psycopg.Connection[tuple[Any, ...]]

    @classmethod
    def at(cls, dsn: str) -> Self:
        """Connect.

        Raises:
            psycopg.Error: if the database does not answer.
        """
        connection = psycopg.connect(
            dsn, autocommit=True, connect_timeout=5, application_name="zt-audit-verify"
        )
        connection.execute(_SETTINGS)
        return cls(connection)

    def head(self) -> tuple[int, int]:
        """The lowest and the highest number of a batch; without any, 1 and 0."""
        return self._pair(_HEAD)

    def partitions(self) -> Mapping[str, date | None]:
        """The tables of decisions, and the day that each is of, if it is of one."""
        return {name: _day(bounds) for name, bounds in self.connection.execute(_PARTITIONS)}

    def batches(self, after: int, until: int) -> Iterator[list[Batch]]:
        """Batches behind a number, up to another, in their order, some at a time."""
        while rows := self.connection.execute(_BATCHES, [after, until]).fetchall():
            batches = [Batch(*row) for row in rows]
            yield batches
            after = batches[-1].number

    def records(self, batches: Sequence[Batch]) -> Mapping[int, list[Row]]:
        """The records of sound batches that were not lost: by batch number, in their order."""
        found: dict[int, list[Row]] = {batch.number: [] for batch in batches}
        if not batches:
            return found
        since, until = [batch.since for batch in batches], [batch.until for batch in batches]
        values = {
            "numbers": [batch.number for batch in batches],
            "since": since,
            "until": until,
            "low": [record_id(batch.writer, batch.first) for batch in batches],
            "high": [record_id(batch.writer, batch.last) for batch in batches],
            "earliest": min(filter(None, since)),
            "latest": max(filter(None, until)),
        }
        with self.connection.cursor().copy(_RECORDS, values) as copy:
            data = b"".join(copy)
        for number, row in _parse(data):
            found[number].append(row)
        for rows in found.values():
            rows.sort()
        return found

    def outcomes(self, identifiers: Iterable[bytes]) -> Iterator[tuple[bytes, Outcome]]:
        """Outcomes by ID; nothing for those that are not there."""
        wanted = [UUID(bytes=identifier) for identifier in identifiers]
        for identifier, *columns in self.connection.execute(_OUTCOMES, [wanted]):
            yield identifier.bytes, Outcome._make(columns)

    def all_outcomes(self) -> Iterator[tuple[UUID, Outcome]]:
        """Every outcome."""
        last: UUID | None = None
        while rows := self.connection.execute(_ALL_OUTCOMES, [last, last]).fetchall():
            for identifier, *columns in rows:
                yield identifier, Outcome._make(columns)
            last = rows[-1][0]

    def count(self, day: date) -> tuple[int, int]:
        """How many records a day has, and the highest number of a batch at that instant."""
        return self._pair(_COUNT, _bounds(day))

    def strays(self, day: date) -> Iterator[Stray]:
        """The records of a day that are of no batch."""
        bounds = _bounds(day)
        statement = (
            "SELECT id, time FROM zt_audit.decision WHERE time >= %s AND time < %s ORDER BY id"
        )
        with (
            self.connection.transaction(),
            self.connection.cursor("batches") as batches,
            self.connection.cursor("records") as records,
        ):
            batches.execute(_BATCHES_OF_DAY, bounds)
            records.execute(statement, bounds)
            merge = _Merge(Batch(*row) for row in batches)
            for identifier, time in records:
                if not merge.has(identifier, time):
                    yield Stray(identifier, time, self._batch_of(identifier))

    def close(self) -> None:
        """Disconnect."""
        self.connection.close()

    def _batch_of(self, identifier: UUID) -> Batch | None:
        writer, sequence = writer_and_sequence(identifier)
        if record_id(writer, sequence) != identifier:
            return None
        row = self.connection.execute(_BATCH_OF, [writer, sequence, sequence]).fetchone()
        return Batch(*row) if row else None

    def _pair(self, statement: LiteralString, values: Sequence[object] = ()) -> tuple[int, int]:
        one, other = self.connection.execute(statement, values).fetchall()[0]
        return one, other


class _Merge:
    """Goes along records and batches that are both in the order of records' IDs."""

    def __init__(self, batches: Iterable[Batch]) -> None:
        """Nothing is read yet."""
        self._sound = (batch for batch in batches if batch.is_sound and not batch.lost)
        self._next = next(self._sound, None)
        self._reached: list[Batch] = []

    def has(self, identifier: UUID, time: datetime) -> bool:
        """Whether a record is of a batch; asked in the order of IDs."""
        while self._next and record_id(self._next.writer, self._next.first) <= identifier:
            self._reached.append(self._next)
            self._next = next(self._sound, None)
        # One, unless somebody entered batches that overlap.
        self._reached = [
            batch for batch in self._reached if record_id(batch.writer, batch.last) >= identifier
        ]
        return any(
            batch.since and batch.until and batch.since <= time <= batch.until
            for batch in self._reached
        )


def microseconds(time: datetime) -> int:
    """Since the epoch."""
    return (time - EPOCH) // timedelta(microseconds=1)


def _day(bounds: str) -> date | None:
    """The day that a partition's bounds are of."""
    match = _BOUNDS.fullmatch(bounds)
    if match is None:
        return None
    first, following = map(date.fromisoformat, match.groups())
    return first if following == first + timedelta(days=1) else None


def _bounds(day: date) -> tuple[datetime, datetime]:
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return start, start + timedelta(days=1)


def _parse(data: bytes) -> Iterator[tuple[int, Row]]:
    """Rows of COPY's binary form, each with its batch's number."""
    end = len(data) - (len(data) - _COPY_HEADER) % _COPY_ROW.size
    rows = _COPY_ROW.iter_unpack(memoryview(data)[_COPY_HEADER:end])
    for _, _, number, _, _, low, _, time, _, outcome, _, latency in rows:
        yield number, Row(low & _MAX_SEQUENCE, time + _EPOCH_US, latency, outcome)
