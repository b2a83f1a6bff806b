"""Records as the database takes them: rows for COPY, new outcomes, counts of edges, and a root."""

from __future__ import annotations

import struct
from collections.abc import Container, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import NamedTuple

from engine.audit.chain import leaf_prefix, root_of
from engine.audit.frames import Records
from engine.audit.layout import BODY
from engine.audit.outcome import decode, record_id
from zt.decide import Verdict

DAY_US = 86_400_000_000
_HOUR_US = 3_600_000_000
_MAX_OUTCOMES = 1 << 15
_FAR = 1 << 63

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# PostgreSQL counts microseconds from 2000.
_EPOCH_US = (datetime(2000, 1, 1, tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)
_COPY_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_COPY_TRAILER = b"\xff\xff"
# The number of fields; then each field's length and value: id, time, outcome, latency_us.
_ROW = struct.Struct("!hiQQiqi16sii")


class Known(NamedTuple):
    """An outcome's ID, its edge, and what it adds to the counts: allowed, denied, would deny."""

    id: bytes
    edge: tuple[str, str, int]
    adds: tuple[int, int, int]


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

    outcome: Known
    number: int
    last_us: int


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

    def new_outcomes(self) -> str:
        """The new outcomes: a JSON array of their encodings."""
        return f"[{b','.join(self.new).decode()}]"

    def edges(self) -> list[list[object]]:
        """What is added to the counts of edges, a list a column of ``zt_audit.add_counts``."""
        sums: dict[tuple[object, ...], list[int]] = {}
        for count in self.counts:
            total = sums.setdefault(
                (*count.outcome.edge, count.last_us // _HOUR_US), [0, 0, 0, -_FAR]
            )
            for index, flag in enumerate(count.outcome.adds):
                total[index] += flag * count.number
            total[-1] = max(total[-1], count.last_us)
        rows = ((*edge[:-1], *total[:-1], moment(total[-1])) for edge, total in sums.items())
        return [list(column) for column in zip(*rows, strict=True)]


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
            counts[identifier, time_us // _HOUR_US] = Count(known, 1, time_us)
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
    outcome = decode(encoded)
    allowed = outcome.verdict is Verdict.ALLOW
    would_deny = allowed and outcome.would_be is Verdict.DENY
    return Known(
        outcome_id(encoded),
        (outcome.source_id or "", outcome.destination_id, outcome.destination_port),
        (int(allowed), int(not allowed), int(would_deny)),
    )


def _corrected(body: bytes, refused: Container[int], now_us: int) -> bytes:
    sequence, time_us, latency_us = BODY.unpack_from(body)
    if time_us // DAY_US not in refused:
        return body
    return BODY.pack(sequence, now_us, latency_us) + body[BODY.size :]
