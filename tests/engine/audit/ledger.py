"""Fills the audit tables as the drainer does: by plain SQL, with a Merkle tree after RFC 6962."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from struct import pack
from typing import Self
from uuid import UUID

import psycopg
from psycopg import sql

from engine.audit.outcome import COLUMNS, AuditRecord, Outcome, encode, record_id
from tests.engine.samples import DB, WEB
from zt.decide import Verdict
from zt.model import Phase

WRITER = 0x123456789ABCDEF
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
OUTCOME = Outcome(
    verdict=Verdict.ALLOW,
    would_be=Verdict.ALLOW,
    phase=Phase.ENFORCE,
    source_id=WEB,
    source_pod="web-1",
    source_node="n1",
    destination_id=DB,
    destination_port=5432,
    rule="core/rule-1",
    reason="rule",
    layer="evaluator",
    revision="0123456789abcdef",
)
DENIED = OUTCOME._replace(verdict=Verdict.DENY, would_be=Verdict.DENY, rule="default")
_ADD_OUTCOME = sql.SQL("INSERT INTO zt_audit.outcome VALUES ({}) ON CONFLICT DO NOTHING").format(
    sql.SQL(", ").join(sql.Placeholder() * (len(COLUMNS) + 1))
)


def now() -> datetime:
    """Whole milliseconds, so that times that are added stay what they were."""
    found = datetime.now(UTC)
    return found.replace(microsecond=found.microsecond // 1000 * 1000)


def outcome_id(outcome: Outcome) -> UUID:
    return UUID(bytes=sha256(encode(outcome)).digest()[:16])


def microseconds(time: datetime) -> int:
    return (time - EPOCH) // timedelta(microseconds=1)


def leaf(writer: int, sequence: int, record: AuditRecord) -> bytes:
    body = pack("<QqI", sequence, microseconds(record.time), record.latency_us)
    return sha256(b"\0" + pack("<Q", writer) + body + encode(record.outcome)).digest()


def root(leaves: Sequence[bytes]) -> bytes:
    if not leaves:
        return sha256().digest()
    if len(leaves) == 1:
        return leaves[0]
    half = 1
    while half * 2 < len(leaves):
        half *= 2
    return sha256(b"\1" + root(leaves[:half]) + root(leaves[half:])).digest()


@dataclass
class Ledger:
    """The audit tables, by a superuser's connection; ``last`` is each writer's last record."""

    connection: psycopg.Connection
    last: dict[int, int] = field(default_factory=dict)

    @classmethod
    def of(cls, admin: str) -> Self:
        connection = psycopg.connect(admin, autocommit=True)
        return cls(connection)

    def close(self) -> None:
        self.connection.close()

    def days(self, first: date, count: int = 1) -> None:
        for number in range(count):
            self.connection.execute(
                "SELECT zt_audit.add_partition(%s)", [first + timedelta(number)]
            )

    def add(
        self, *decisions: tuple[datetime, Outcome], writer: int = WRITER, latency_us: int = 42
    ) -> list[AuditRecord]:
        """One batch of a writer."""
        first = self.last.get(writer, 0) + 1
        self.last[writer] = first + len(decisions) - 1
        records = [
            AuditRecord(record_id(writer, first + index), time, latency_us, outcome)
            for index, (time, outcome) in enumerate(decisions)
        ]
        with self.connection.transaction():
            self.outcomes(record.outcome for record in records)
            self.insert(records)
            self.batch(writer, first, records)
            self._count(records)
        return records

    def outcomes(self, outcomes: Iterable[Outcome]) -> None:
        rows = [[outcome_id(outcome), *outcome] for outcome in set(outcomes)]
        self.connection.cursor().executemany(_ADD_OUTCOME, rows)

    def insert(self, records: Iterable[AuditRecord]) -> None:
        with self.connection.cursor().copy("COPY zt_audit.decision FROM STDIN") as rows:
            for record in records:
                rows.write_row(
                    [record.id, record.time, outcome_id(record.outcome), record.latency_us]
                )

    def batch(self, writer: int, first: int, records: Sequence[AuditRecord]) -> None:
        leaves = [leaf(writer, first + index, record) for index, record in enumerate(records)]
        times = [record.time for record in records]
        self.connection.execute(
            "SELECT zt_audit.add_batch(%s, %s, %s, %s, %s, %s)",
            [writer, first, first + len(records) - 1, min(times), max(times), root(leaves)],
        )

    def lose(self, count: int, writer: int = WRITER) -> None:
        """Enter a stretch of records as lost."""
        first = self.last.get(writer, 0) + 1
        self.last[writer] = first + count - 1
        self.connection.execute(
            "SELECT zt_audit.add_batch(%s, %s, %s, NULL, NULL, %s)",
            [writer, first, first + count - 1, root([])],
        )

    def _count(self, records: Iterable[AuditRecord]) -> None:
        for record in records:
            one = record.outcome
            allowed = one.verdict is Verdict.ALLOW
            self.connection.execute(
                "SELECT zt_audit.add_counts(ARRAY[%s], ARRAY[%s], ARRAY[%s::integer],"
                " ARRAY[%s::bigint], ARRAY[%s::bigint], ARRAY[%s::bigint], ARRAY[%s::timestamptz])",
                [
                    one.source_id or "",
                    one.destination_id,
                    one.destination_port,
                    int(allowed),
                    int(not allowed),
                    int(allowed and one.would_be is Verdict.DENY),
                    record.time,
                ],
            )
