"""A trail with something in it, for whoever proves it or tampers with it."""

from dataclasses import dataclass, field
from datetime import timedelta
from random import Random
from typing import Any, LiteralString

import psycopg

from engine.audit.checkpoint import Checkpoint
from engine.audit.evidence import Evidence
from engine.audit.outcome import AuditRecord
from engine.audit.verify import Finding, Kind, Summary, verify
from tests.engine.audit.ledger import DENIED, OUTCOME, WRITER, Ledger, now

OUTCOMES = (OUTCOME, DENIED, OUTCOME._replace(source_id=None, source_pod=None))
OTHER = 0xFEDCBA987654321
LAST_DAYS = 4


@dataclass
class Trail:
    """A ledger of some batches of two writers, and what was written."""

    ledger: Ledger
    records: list[AuditRecord] = field(repr=False)
    batches: int
    chain: bytes

    @property
    def connection(self) -> psycopg.Connection:
        return self.ledger.connection

    def verify(
        self, *checkpoints: Checkpoint, kept_days: int = 365
    ) -> tuple[list[Finding], Summary]:
        summary = Summary()
        found = verify(Evidence(self.connection), iter(checkpoints), summary, kept_days=kept_days)
        return list(found), summary

    def kinds(self, *checkpoints: Checkpoint) -> set[Kind]:
        return {finding.kind for finding in self.verify(*checkpoints)[0]}

    def run(self, statement: LiteralString, *values: object) -> None:
        cursor = self.connection.execute(statement, values)
        assert cursor.rowcount, "nothing was tampered with"

    def column(self, statement: LiteralString, *values: object) -> list[Any]:
        return [row[0] for row in self.connection.execute(statement, values)]


def fill(ledger: Ledger) -> list[AuditRecord]:
    """Batches of two writers, some across midnight, one of lost records."""
    random, start = Random(5), now() - timedelta(days=LAST_DAYS - 1)  # noqa: S311 - not for secrets
    records: list[AuditRecord] = []
    for number in range(24):
        if number == 9:
            ledger.lose(3)
        at = start + timedelta(hours=3 * number)
        steps = range(random.randrange(1, 9))
        decisions = [(at + timedelta(minutes=7 * n), OUTCOMES[n % 3]) for n in steps]
        if number % 5 == 0:
            decisions.reverse()  # the clock was set back
        records += ledger.add(*decisions, writer=(WRITER, OTHER)[number % 2])
    return records
