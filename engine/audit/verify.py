"""Proves that the trail is what was written, or says what is not.

Leaves and roots are computed again from the rows, and the chain from the roots. Whoever owns the
database could have rewritten all of that together, up to the latest signed checkpoint that was
taken out of his reach: so those are compared as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from itertools import pairwise
from uuid import UUID

from engine.audit.chain import EMPTY, START, body, leaf_hash, next_link, root_of
from engine.audit.checkpoint import Checkpoint
from engine.audit.evidence import DAY_US, EPOCH, Batch, Evidence, Row, microseconds
from engine.audit.outcome import encode, record_id

KEPT_DAYS = 365
_AT_ONCE = 20_000  # records
_KNOWN_OUTCOMES = 65_536
# A spool may be drained long after; but nobody keeps one for longer and drains it then.
_LATE = timedelta(days=31)

Progress = Callable[[int, int], None]


class Kind(StrEnum):
    """What can be wrong."""

    BATCH = "batch"  # its numbers or times cannot be
    CHAIN = "chain"  # the chain is not the hash of what went before, or batches are missing
    CHECKPOINT = "checkpoint"  # a signed checkpoint says otherwise
    DROPPED = "dropped"  # gone as if by retention, but too early
    MISSING = "missing"  # records of a batch are not there
    MOVED = "moved"  # a record is there at another time than its batch
    OUTCOME = "outcome"  # an outcome is not what its ID says, or is not there
    PARTITION = "partition"  # a table of decisions is not a day's
    ROOT = "root"  # records of a batch are not those that were written
    SEQUENCE = "sequence"  # a writer's batches do not follow each other
    STRAY = "stray"  # a record is of no batch


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong: in which batch, and with which record or outcome, where that is known."""

    kind: Kind
    message: str
    batch: int | None = None
    id: UUID | None = None


@dataclass(slots=True)
class Summary:
    """What was looked at."""

    batches: int = 0
    records: int = 0  # that are those of their batches
    outcomes: int = 0
    days: int = 0
    since: date | None = None  # the first day whose records are there
    dropped: int = 0  # batches whose records are gone by retention, at least in part
    lost: int = 0  # records that the ledger itself calls lost
    last: int = 0  # the number of the last batch
    checkpoints: int = 0
    covered: int = 0  # the number of the last batch that a checkpoint vouches for
    findings: Counter[Kind] = field(default_factory=Counter)


def verify(
    evidence: Evidence,
    checkpoints: Iterable[Checkpoint],
    summary: Summary,
    *,
    kept_days: int = KEPT_DAYS,
    progress: Progress | None = None,
) -> Iterator[Finding]:
    """Everything that is wrong, as it is found; ``summary`` is filled meanwhile.

    ``progress`` is told how many batches are done, of how many. Records younger than ``kept_days``
    must be there; where older ones are not, only the batches are verified.

    Raises:
        CheckpointError: if a checkpoint is not what it should be.
        psycopg.Error: if the database does not answer.
    """
    return _Verification(evidence, iter(checkpoints), summary, kept_days, progress).run()


class _Verification:
    """One run; what it keeps grows with days, writers and outcomes alone."""

    def __init__(
        self,
        evidence: Evidence,
        checkpoints: Iterator[Checkpoint],
        summary: Summary,
        kept_days: int,
        progress: Progress | None,
    ) -> None:
        self._evidence = evidence
        self._checkpoints = checkpoints
        self._checkpoint = next(checkpoints, None)
        self._summary = summary
        self._progress = progress
        self._kept = datetime.now(UTC).date() - timedelta(days=kept_days)
        self._previous: Batch | None = None
        self._last: dict[int, int] = {}  # of each writer's records
        self._found: Counter[int] = Counter()  # records of batches, by day since the epoch
        self._outcomes: dict[bytes, bytes | None] = {}  # encoded, by ID
        self._early: set[date] = set()
        self._newest = datetime.min.replace(tzinfo=UTC)
        self._first_day = date.max

    def run(self) -> Iterator[Finding]:
        for finding in self._all():
            self._summary.findings[finding.kind] += 1
            yield finding

    def _all(self) -> Iterator[Finding]:
        first, last = self._evidence.head()
        yield from self._partitions()
        yield from self._below_one(first)
        yield from self._batches_until(last)
        yield from self._each_outcome()
        for day in self._look_at_days():
            yield from self._day(day)
        yield from self._checkpoints_beyond()

    def _partitions(self) -> Iterator[Finding]:
        """Whether each table is of a day, as the schema makes them."""
        self._look_at_days()
        for name, day in self._evidence.partitions().items():
            if day is None:
                yield Finding(
                    Kind.PARTITION, f"table {name} holds decisions, but not those of a day"
                )

    def _look_at_days(self) -> list[date]:
        """The days whose records are there; the first of them is remembered."""
        days = sorted(filter(None, self._evidence.partitions().values()))
        self._first_day = days[0] if days else date.max
        self._summary.since = days[0] if days else None
        return days

    def _below_one(self, first: int) -> Iterator[Finding]:
        if first < 1:
            yield Finding(Kind.BATCH, f"there is a batch {first}: they count from 1", first)

    def _batches_until(self, last: int) -> Iterator[Finding]:
        after = self._summary.last
        for batches in self._evidence.batches(after, last):
            for group in _groups(batches):
                yield from self._group(group)
                if self._progress:
                    self._progress(self._summary.last, last)

    def _group(self, batches: Sequence[Batch]) -> Iterator[Finding]:
        """Batches whose records are read at once."""
        rows = self._evidence.records([batch for batch in batches if _has_records(batch)])
        self._learn({row.outcome for found in rows.values() for row in found})
        for batch in batches:
            yield from self._links(batch)
            yield from self._checkpointed(batch)
            yield from self._content(batch, rows.get(batch.number, []))
            self._summary.batches += 1
            self._summary.last = batch.number

    def _links(self, batch: Batch) -> Iterator[Finding]:
        """Whether a batch follows the one before it, and the writer's last one."""
        previous, self._previous = self._previous, batch
        before = previous.number if previous else 0
        number = batch.number
        if number != before + 1:
            yield Finding(Kind.CHAIN, f"{_batches(before + 1, number - 1)} not there", number)
        elif next_link(previous.chain if previous else START, batch.link) != batch.chain:
            message = f"the chain of batch {number} does not follow from batch {before} and itself"
            yield Finding(Kind.CHAIN, message, number)
        expected = self._last.get(batch.writer, 0) + 1
        self._last[batch.writer] = batch.last
        if batch.first != expected:
            message = (
                f"batch {number} has records {batch.first} to {batch.last} of writer "
                f"{batch.writer:015x}, whose next one is {expected}"
            )
            yield Finding(Kind.SEQUENCE, message, number)

    def _checkpointed(self, batch: Batch) -> Iterator[Finding]:
        """Whether the checkpoints up to a batch say the same."""
        while self._checkpoint and self._checkpoint.number <= batch.number:
            checkpoint, self._checkpoint = self._checkpoint, next(self._checkpoints, None)
            self._summary.checkpoints += 1
            chain = batch.chain if checkpoint.number == batch.number else None
            if checkpoint.chain == (START if checkpoint.number == 0 else chain):
                self._summary.covered = checkpoint.number
                continue
            message = (
                f"the checkpoint of batch {checkpoint.number} has another chain: "
                "this batch or one before it was rewritten"
            )
            yield Finding(Kind.CHECKPOINT, message, checkpoint.number)

    def _checkpoints_beyond(self) -> Iterator[Finding]:
        while self._checkpoint:
            checkpoint, self._checkpoint = self._checkpoint, next(self._checkpoints, None)
            self._summary.checkpoints += 1
            if checkpoint.number == 0 and checkpoint.chain == START:
                continue
            message = (
                f"there is a checkpoint of batch {checkpoint.number}, "
                f"but the trail ends with batch {self._summary.last}"
            )
            yield Finding(Kind.CHECKPOINT, message, checkpoint.number)

    def _content(self, batch: Batch, rows: list[Row]) -> Iterator[Finding]:
        """Whether a batch's records are those that were written."""
        if not batch.is_sound:
            yield Finding(Kind.BATCH, f"batch {batch.number} has impossible values", batch.number)
            return
        self._found.update(row.time_us // DAY_US for row in rows)
        if batch.lost:
            self._summary.lost += batch.last - batch.first + 1
            if batch.root != EMPTY:
                message = f"batch {batch.number} has no times, but is not one of lost records"
                yield Finding(Kind.BATCH, message, batch.number)
        elif self._is_dropped(batch, complete=len(rows) == batch.last - batch.first + 1):
            self._summary.dropped += 1
            yield from self._too_early(batch)
        else:
            yield from self._records(batch, rows)
        if batch.until:
            self._newest = max(self._newest, batch.until)

    def _is_dropped(self, batch: Batch, *, complete: bool) -> bool:
        """Whether records of a batch are gone by retention, maybe while we look."""
        if complete:
            return False
        day = batch.times[0].date()
        if day >= self._first_day:
            self._look_at_days()
        return day < self._first_day

    def _too_early(self, batch: Batch) -> Iterator[Finding]:
        """Whether the records of a dropped batch were old enough; a day is told once."""
        since, until = batch.times
        if self._newest - until > _LATE:
            message = (
                f"batch {batch.number} says it is of {until.date()}, which retention has "
                f"dropped, but comes after batches of {self._newest.date()}"
            )
            yield Finding(Kind.DROPPED, message, batch.number)
        day = max(since.date(), self._kept)
        while day <= until.date() and day < self._first_day:
            if day not in self._early:
                self._early.add(day)
                message = f"the records of {day} are gone, but are to be kept"
                yield Finding(Kind.DROPPED, message, batch.number)
            day += timedelta(days=1)

    def _records(self, batch: Batch, rows: list[Row]) -> Iterator[Finding]:
        number = batch.number
        for first, last in _gaps(batch, rows):
            some = "record {} is" if first == last else "records {} to {} are"
            which = f"{some.format(first, last)} not there"
            message = f"{which}, of writer {batch.writer:015x} in batch {number}"
            yield Finding(Kind.MISSING, message, number, record_id(batch.writer, first))
        for one, other in pairwise(rows):
            if one.sequence == other.sequence:
                identifier = record_id(batch.writer, one.sequence)
                message = f"record {identifier} is there more than once, in batch {number}"
                yield Finding(Kind.STRAY, message, number, identifier)
        if len(rows) != batch.last - batch.first + 1:
            return
        yield from self._root(batch, rows)
        yield from self._times(batch, rows)

    def _root(self, batch: Batch, rows: list[Row]) -> Iterator[Finding]:
        encoded = [self._outcomes[row.outcome] for row in rows]
        leaves = [
            leaf_hash(batch.writer, body(row.sequence, row.time_us, row.latency_us, outcome or b""))
            for row, outcome in zip(rows, encoded, strict=True)
        ]
        if root_of(leaves) == batch.root:
            self._summary.records += len(rows)
            return
        message = f"the records of batch {batch.number} are not those that were written"
        bad = sorted({row.outcome for row in rows if not self._is_outcome(row.outcome)})
        if bad:
            message += f" (outcome {UUID(bytes=bad[0])} is not there, or another)"
        yield Finding(Kind.ROOT, message, batch.number)

    def _times(self, batch: Batch, rows: list[Row]) -> Iterator[Finding]:
        times = [row.time_us for row in rows]
        if (min(times), max(times)) != tuple(map(microseconds, batch.times)):
            message = f"the times of batch {batch.number} are not those of its records"
            yield Finding(Kind.BATCH, message, batch.number)

    def _learn(self, identifiers: set[bytes]) -> None:
        """Have the outcomes of some records at hand."""
        new = identifiers - self._outcomes.keys()
        if len(self._outcomes) + len(new) > _KNOWN_OUTCOMES:
            self._outcomes.clear()
            new = identifiers
        self._outcomes.update(dict.fromkeys(new))
        for identifier, outcome in self._evidence.outcomes(new) if new else ():
            self._outcomes[identifier] = encode(outcome)

    def _is_outcome(self, identifier: bytes) -> bool:
        encoded = self._outcomes[identifier]
        return encoded is not None and sha256(encoded).digest()[:16] == identifier

    def _each_outcome(self) -> Iterator[Finding]:
        for identifier, outcome in self._evidence.all_outcomes():
            self._summary.outcomes += 1
            if sha256(encode(outcome)).digest()[:16] != identifier.bytes:
                message = f"outcome {identifier} was rewritten: its ID is the hash of another"
                yield Finding(Kind.OUTCOME, message, id=identifier)

    def _day(self, day: date) -> Iterator[Finding]:
        """Whether a day has records that are of no batch."""
        count, last = self._evidence.count(day)
        # Batches that came meanwhile are part of what was counted.
        yield from self._batches_until(last)
        self._summary.days += 1
        if count == self._found[(day - EPOCH.date()).days]:
            return
        for stray in self._evidence.strays(day):
            if stray.batch is None:
                message = f"record {stray.id} of {stray.time.isoformat()} is of no batch"
                yield Finding(Kind.STRAY, message, id=stray.id)
            else:
                number = stray.batch.number
                message = f"record {stray.id} is at {stray.time.isoformat()}, unlike batch {number}"
                yield Finding(Kind.MOVED, message, number, stray.id)


def _groups(batches: Iterable[Batch]) -> Iterator[list[Batch]]:
    """Batches with about as many records as are read at once."""
    group: list[Batch] = []
    size = 0
    for batch in batches:
        group.append(batch)
        size += batch.last - batch.first + 1
        if size >= _AT_ONCE:
            yield group
            group, size = [], 0
    if group:
        yield group


def _has_records(batch: Batch) -> bool:
    return batch.is_sound and not batch.lost


def _gaps(batch: Batch, rows: Iterable[Row]) -> Iterator[tuple[int, int]]:
    """First and last of each stretch of records that are not there."""
    expected = batch.first
    for row in rows:
        if row.sequence > expected:
            yield expected, row.sequence - 1
        expected = max(expected, row.sequence + 1)
    if expected <= batch.last:
        yield expected, batch.last


def _batches(first: int, last: int) -> str:
    return f"batch {first} is" if first == last else f"batches {first} to {last} are"
