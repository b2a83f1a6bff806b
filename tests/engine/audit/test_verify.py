"""A trail is proved; what happens to it by itself is not blamed."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from engine.audit import checkpoint, evidence
from engine.audit import verify as verify_module
from engine.audit.checkpoint import Checkpoint
from engine.audit.drain import Drainer
from engine.audit.evidence import Evidence, microseconds
from engine.audit.outcome import encode
from engine.audit.spool import Spool
from engine.audit.verify import Kind, Summary, verify
from engine.settings import Audit, Durability
from tests.engine.audit.filled import LAST_DAYS, OUTCOMES, Trail
from tests.engine.audit.ledger import DENIED, OUTCOME, Ledger, now
from tests.engine.conftest import Database

KEY = Ed25519PrivateKey.generate()


def test_an_untouched_trail_is_proved(trail: Trail) -> None:
    findings, summary = trail.verify(Checkpoint(trail.batches, trail.chain))
    assert findings == []
    assert summary == Summary(
        batches=25,
        records=len(trail.records),
        outcomes=3,
        days=LAST_DAYS + 2,
        since=now().date() - timedelta(days=LAST_DAYS),
        lost=3,
        last=25,
        checkpoints=1,
        covered=25,
    )


def test_an_empty_trail_is_proved(database: Database) -> None:
    ledger = Ledger.of(database.admin)
    summary = Summary()
    assert list(verify(Evidence(ledger.connection), [], summary)) == []
    assert summary == Summary()
    ledger.close()


def test_who_may_only_read_can_verify(trail: Trail, database: Database) -> None:
    summary = Summary()
    proof = Evidence.at(database.dsn)
    assert list(verify(proof, [], summary)) == []
    assert summary.records == len(trail.records)
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        proof.connection.execute("INSERT INTO zt_audit.decision DEFAULT VALUES")
    proof.close()


def test_nothing_depends_on_how_much_is_read_at_once(
    trail: Trail, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify_module, "_AT_ONCE", 5)
    monkeypatch.setattr(verify_module, "_KNOWN_OUTCOMES", 2)
    limited = evidence._BATCH + psycopg.sql.SQL(
        "WHERE number > %s AND number <= %s ORDER BY number LIMIT 4"
    )
    monkeypatch.setattr(evidence, "_BATCHES", limited)
    assert trail.verify()[0] == []


def test_retention_is_no_tampering(trail: Trail) -> None:
    """Batches remain whose records went: at first those of whole batches, and a part of one."""
    first = now().date() - timedelta(days=LAST_DAYS)
    for day in range(3):
        trail.connection.execute(
            f"DROP TABLE zt_audit.decision_{first + timedelta(days=day):%Y%m%d}".encode()
        )
    findings, summary = trail.verify(Checkpoint(trail.batches, trail.chain), kept_days=1)
    assert findings == []
    assert 0 < summary.dropped < trail.batches
    assert summary.since == first + timedelta(days=3)
    assert 0 < summary.records < len(trail.records)
    findings, _ = trail.verify(kept_days=2)
    assert {finding.kind for finding in findings} == {Kind.DROPPED}
    assert str(first + timedelta(days=2)) in findings[0].message


def test_what_retention_dropped_is_still_chained(trail: Trail) -> None:
    first = now().date() - timedelta(days=LAST_DAYS)
    for day in range(3):
        trail.connection.execute(
            f"DROP TABLE zt_audit.decision_{first + timedelta(days=day):%Y%m%d}".encode()
        )
    trail.run("UPDATE zt_audit.batch SET root = sha256('x') WHERE number = 2")
    findings, _ = trail.verify(kept_days=1)
    assert [(one.kind, one.batch) for one in findings] == [(Kind.CHAIN, 2)]


def test_what_is_written_meanwhile_is_no_tampering(
    trail: Trail, monkeypatch: pytest.MonkeyPatch
) -> None:
    at, whole = now(), Evidence.all_outcomes

    def meanwhile(self: Evidence) -> Iterator[Any]:
        trail.ledger.add((at, DENIED), (at, OUTCOME))
        return whole(self)

    monkeypatch.setattr(Evidence, "all_outcomes", meanwhile)
    findings, summary = trail.verify()
    assert findings == []
    assert summary.last == trail.batches + 1


def test_what_the_drainer_writes_is_proved(database: Database, tmp_path: Path) -> None:
    """By what it wrote, and by the checkpoints that it signed."""
    key, folder = tmp_path / "key.pem", tmp_path / "checkpoints"
    key.write_bytes(KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    folder.mkdir()
    spool = Spool(tmp_path / "spool", segment_bytes=1 << 20, limit_bytes=1 << 24)
    at = microseconds(now())
    for number in range(600):
        spool.append(encode(OUTCOMES[number % 3]), at + number, number)
    spool.close()
    audit = Audit(database.dsn, Durability.PROCESS, 1 << 20, 1 << 24, folder, key)
    Drainer(tmp_path / "spool", audit, tmp_path).drain(lambda: True)
    summary, proof = Summary(), Evidence.at(database.dsn)
    signed = checkpoint.read(folder, KEY.public_key())
    assert list(verify(proof, signed, summary)) == []
    proof.close()
    assert (summary.records, summary.outcomes) == (600, 3)
    assert 0 < summary.covered == summary.last


def test_findings_say_what_and_where(trail: Trail) -> None:
    record = trail.records[0]
    trail.run("DELETE FROM zt_audit.decision WHERE id = %s", record.id)
    findings, summary = trail.verify()
    (finding,) = findings
    assert (finding.kind, finding.batch, finding.id) == (Kind.MISSING, 1, record.id)
    assert finding.message == "record 1 is not there, of writer 123456789abcdef in batch 1"
    assert summary.findings == {Kind.MISSING: 1}


def test_progress_is_told(trail: Trail, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify_module, "_AT_ONCE", 20)
    told: list[tuple[int, int]] = []
    evidence_ = Evidence(trail.connection)
    assert not list(verify(evidence_, [], Summary(), progress=lambda *step: told.append(step)))
    assert told == sorted(told)
    assert told[-1] == (trail.batches, trail.batches)
    assert len(told) > 3
