"""Records as the database takes them: rows for COPY, new outcomes, counts of edges, and a root."""

from __future__ import annotations

import struct
from collections.abc import Container, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import NamedTuple
from uuid import UUID

from engine.audit.chain import leaf_prefix, root_of
from engine.audit.frames import Records
from engine.audit.layout import BODY
from engine.audit.outcome import Outcome, decode, record_id
from zt.decide import Verdict

DAY_US = 86_400_000_000
_HOUR_US = 3_600_000_000
_MAX_OUTCOMES = 65_536
_FAR = 1 << 63

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# PostgreSQL counts microseconds from 2000.
_EPOCH_US = (datetime(2000, 1, 1, tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)
_COPY_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_COPY_TRAILER = b"\xff\xff"
# The number of fields; then each field's length and value: id, time, outcome, latency_us.
_ROW = struct.Struct("!hiQQiqi16sii")


class Known(NamedTuple):
    """An outcome and its ID."""

    id: bytes
    outcome: Outcome


class Outcomes(dict[bytes, Known]):
    """Outcomes by their encoding: those that the database has, as far as a connection knows."""

    def store(self, new: dict[bytes, Known]) -> None:
        """Take note of what was committed; bounded, since there may be any number of them."""
        if len(self) + len(new) > _MAX_OUTCOMES:
            self.clear()
        self.update(new)


@dataclass(slots=True)
class Count:
    """How many decisions of one outcome were made in an hour, and when the last one was."""

    outcome: Outcome
    number: int
    last_us: int


class EdgeCount(NamedTuple):
    """What is added to the counts of an edge; ``last_seen`` is in the hour that it is of."""

    source: str
    destination: str
    port: int
    allowed: int
    denied: int
    would_deny: int
    last_seen: datetime


@dataclass(frozen=True, slots=True)
class Batch:
    """Records of one writer, ready for the database; times in microseconds since the epoch."""

    first: int
    last: int
    since_us: int
    until_us: int
    root: bytes
    copy: bytes
    new: dict[bytes, Known]
    counts: list[Count]

    def outcome_columns(self) -> list[list[object]]:
        """The new outcomes, a list a column: their IDs, then as ``Outcome`` has them.

        All writers insert in the same order, so that none waits for another in a circle.
        """
        columns: list[list[object]] = [[] for _ in range(14)]
        for known in sorted(self.new.values()):
            for column, value in zip(columns, _values(known), strict=True):
                column.append(value)
        return columns

    def count_columns(self) -> list[list[object]]:
        """The counts of edges, a list a column, as ``EdgeCount`` has them."""
        return [list(column) for column in zip(*map(_edge_count, self.counts), strict=True)]


def days(bodies: Iterable[bytes]) -> set[int]:
    """The days of records, counted from the epoch in UTC."""
    unpack = BODY.unpack_from
    return {unpack(body)[1] // DAY_US for body in bodies}


def corrected(records: Records, refused: Container[int], now_us: int) -> Records:
    """Records as the database can take them: those of days that it refuses are of now."""
    return Records(records.first, [_corrected(body, refused, now_us) for body in records.bodies])


def prepare(writer: int, records: Records, outcomes: Outcomes) -> Batch:
    """Make a batch of records.

    Raises:
        ValueError: if one is no record.
    """
    prefix = leaf_prefix(writer)
    high, low = divmod(record_id(writer, 0).int, 1 << 64)
    unpack, pack, extra = BODY.unpack_from, _ROW.pack, BODY.size
    rows, leaves = [_COPY_HEADER], []
    new: dict[bytes, Known] = {}
    counts: dict[tuple[bytes, int], Count] = {}
    since, until = _FAR, -_FAR
    for body in records.bodies:
        sequence, time_us, latency = unpack(body)
        encoded = body[extra:]
        known = outcomes.get(encoded) or new.get(encoded)
        if known is None:
            known = new[encoded] = _known(encoded)
        identifier = known.id
        leaves.append(sha256(prefix + body).digest())
        rows.append(
            pack(4, 16, high, low | sequence, 8, time_us - _EPOCH_US, 16, identifier, 4, latency)
        )
        since, until = min(since, time_us), max(until, time_us)
        count = counts.get((identifier, time_us // _HOUR_US))
        if count is None:
            counts[identifier, time_us // _HOUR_US] = Count(known.outcome, 1, time_us)
        else:
            count.number += 1
            count.last_us = max(count.last_us, time_us)
    rows.append(_COPY_TRAILER)
    root, copy = root_of(leaves), b"".join(rows)
    return Batch(records.first, records.last, since, until, root, copy, new, list(counts.values()))


def moment(time_us: int) -> datetime:
    """A time in microseconds since the epoch.

    Raises:
        OverflowError: if it is out of reach of a date.
    """
    return _EPOCH + timedelta(microseconds=time_us)


def outcome_id(encoded: bytes) -> bytes:
    """The ID of an outcome, from its encoding."""
    return sha256(encoded).digest()[:16]


def _known(encoded: bytes) -> Known:
    return Known(outcome_id(encoded), decode(encoded))


def _values(known: Known) -> tuple[object, ...]:
    outcome = known.outcome
    return (
        UUID(bytes=known.id),
        outcome.verdict.value,
        outcome.would_be.value,
        outcome.phase.value,
        outcome.source_id,
        outcome.source_pod,
        outcome.source_node,
        outcome.destination_id,
        outcome.destination_port,
        outcome.rule,
        outcome.reason,
        outcome.layer,
        outcome.revision,
        outcome.on_behalf_of,
    )


def _edge_count(count: Count) -> EdgeCount:
    outcome, number = count.outcome, count.number
    allowed = outcome.verdict is Verdict.ALLOW
    would_deny = allowed and outcome.would_be is Verdict.DENY
    return EdgeCount(
        outcome.source_id or "",
        outcome.destination_id,
        outcome.destination_port,
        number if allowed else 0,
        0 if allowed else number,
        number if would_deny else 0,
        moment(count.last_us),
    )


def _corrected(body: bytes, refused: Container[int], now_us: int) -> bytes:
    sequence, time_us, latency_us = BODY.unpack_from(body)
    if time_us // DAY_US not in refused:
        return body
    return BODY.pack(sequence, now_us, latency_us) + body[BODY.size :]
