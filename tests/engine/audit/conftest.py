"""A trail to prove, in a real database."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from tests.engine.audit.filled import LAST_DAYS, Trail, fill
from tests.engine.audit.ledger import Ledger, now
from tests.engine.conftest import Database


@pytest.fixture
def trail(database: Database) -> Iterator[Trail]:
    ledger = Ledger.of(database.admin)
    ledger.days(now().date() - timedelta(days=LAST_DAYS), LAST_DAYS + 2)
    records = fill(ledger)
    for table in ("decision", "outcome", "batch"):
        ledger.connection.execute(f"ALTER TABLE zt_audit.{table} DISABLE TRIGGER ALL".encode())
    head = ledger.connection.execute(
        "SELECT number, chain FROM zt_audit.batch ORDER BY number DESC LIMIT 1"
    ).fetchone()
    assert head is not None
    yield Trail(ledger, records, *head)
    ledger.close()
