"""Whatever a superuser does to the trail is noticed."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import LiteralString
from uuid import UUID, uuid4

import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.audit import checkpoint
from engine.audit.chain import Link, next_link
from engine.audit.checkpoint import Checkpoint, CheckpointError
from engine.audit.outcome import AuditRecord, record_id
from engine.audit.verify import Kind
from tests.engine.audit.filled import OTHER, OUTCOMES, Trail
from tests.engine.audit.ledger import DENIED, OUTCOME, WRITER, leaf, now, outcome_id, root

UNKNOWN = 0x777
KEY = Ed25519PrivateKey.generate()


# What a superuser does: it takes the trail and a source of choices.

Tampering = Callable[[Trail, Random], None]


def any_record(trail: Trail, random: Random) -> AuditRecord:
    return random.choice(trail.records)


def change_latency(trail: Trail, random: Random) -> None:
    trail.run(
        "UPDATE zt_audit.decision SET latency_us = latency_us + 1 WHERE id = %s",
        any_record(trail, random).id,
    )


def change_outcome(trail: Trail, random: Random) -> None:
    record = any_record(trail, random)
    others = [outcome_id(one) for one in OUTCOMES if one != record.outcome]
    trail.run(
        "UPDATE zt_audit.decision SET outcome = %s WHERE id = %s",
        random.choice([*others, uuid4()]),
        record.id,
    )


def change_time(trail: Trail, random: Random) -> None:
    record = any_record(trail, random)
    by = random.choice([1, -1, 1000, 3_600_000_000, -86_400_000_000])
    moved = record.time + timedelta(microseconds=by)
    trail.run("UPDATE zt_audit.decision SET time = %s WHERE id = %s", moved, record.id)


def change_id(trail: Trail, random: Random) -> None:
    record = any_record(trail, random)
    last = trail.ledger.last[WRITER]
    new = random.choice([uuid4(), record_id(UNKNOWN, 1), record_id(WRITER, last + 1)])
    trail.run("UPDATE zt_audit.decision SET id = %s WHERE id = %s", new, record.id)


def delete_record(trail: Trail, random: Random) -> None:
    trail.run("DELETE FROM zt_audit.decision WHERE id = %s", any_record(trail, random).id)


def delete_records_of_a_day(trail: Trail, random: Random) -> None:
    day = random.choice(trail.records).time.date()
    trail.run("DELETE FROM zt_audit.decision WHERE (time AT TIME ZONE 'UTC')::date = %s", day)


def insert_record(trail: Trail, random: Random) -> None:
    record = any_record(trail, random)
    last = trail.ledger.last[OTHER]
    new = random.choice(
        [uuid4(), record_id(UNKNOWN, 7), record_id(OTHER, last + 1), record_id(WRITER, 1 << 60)]
    )
    _insert(trail, new, record.time)


def insert_record_twice(trail: Trail, random: Random) -> None:
    record = any_record(trail, random)
    by = random.choice([1, -1, 600_000_000, 90_000_000_000])
    _insert(trail, record.id, record.time - timedelta(microseconds=by))


def _insert(trail: Trail, identifier: UUID, time: datetime) -> None:
    trail.run(
        "INSERT INTO zt_audit.decision VALUES (%s, %s, %s, 1)",
        identifier,
        time,
        outcome_id(OUTCOME),
    )


def replace_record(trail: Trail, random: Random) -> None:
    """As many as before."""
    delete_record(trail, random)
    insert_record(trail, random)


def swap_outcomes(trail: Trail, random: Random) -> None:
    allowed = [record for record in trail.records if record.outcome == OUTCOME]
    denied = [record for record in trail.records if record.outcome == DENIED]
    one, other = random.choice(allowed), random.choice(denied)
    trail.run(
        "UPDATE zt_audit.decision SET outcome = CASE id WHEN %s THEN %s::uuid ELSE %s::uuid END"
        " WHERE id IN (%s, %s)",
        *(one.id, outcome_id(DENIED), outcome_id(OUTCOME), one.id, other.id),
    )


def swap_times(trail: Trail, random: Random) -> None:
    one, other = random.sample(trail.records, 2)
    if one.time == other.time:
        other = next(record for record in trail.records if record.time != one.time)
    for record, time in ((one, other.time), (other, one.time)):
        trail.run("UPDATE zt_audit.decision SET time = %s WHERE id = %s", time, record.id)


def rewrite_outcome(trail: Trail, random: Random) -> None:
    column, value = random.choice(
        [("source_id", "spiffe://hanzo.ai/x/y/z"), ("rule", "core/rule-9"), ("on_behalf_of", "me")]
    )
    statement = psycopg.sql.SQL("UPDATE zt_audit.outcome SET {} = %s WHERE id = %s").format(
        psycopg.sql.Identifier(column)
    )
    trail.connection.execute(statement, [value, outcome_id(random.choice(OUTCOMES))])


def rename_outcome(trail: Trail, random: Random) -> None:
    trail.run(
        "UPDATE zt_audit.outcome SET id = %s WHERE id = %s",
        uuid4(),
        outcome_id(random.choice(OUTCOMES)),
    )


def delete_outcome(trail: Trail, random: Random) -> None:
    trail.run("DELETE FROM zt_audit.outcome WHERE id = %s", outcome_id(random.choice(OUTCOMES)))


def add_outcome(trail: Trail, random: Random) -> None:
    trail.run(
        "INSERT INTO zt_audit.outcome SELECT gen_random_uuid(), verdict, would_be, phase,"
        " source_id, source_pod, source_node, destination_id, destination_port, rule, reason,"
        " layer, revision"
        " FROM zt_audit.outcome ORDER BY id OFFSET %s LIMIT 1",
        random.randrange(3),
    )


def a_batch(trail: Trail, random: Random) -> int:
    return random.randrange(1, trail.batches + 1)


def delete_batch(trail: Trail, random: Random) -> None:
    # Of the lost batch, the last one, nothing else would be left.
    trail.run("DELETE FROM zt_audit.batch WHERE number = %s", a_batch(trail, random))


def delete_batch_and_records(trail: Trail, random: Random) -> None:
    number = random.randrange(1, trail.batches)
    trail.run("DELETE FROM zt_audit.batch WHERE number = %s", number)
    _delete_records_without_batch(trail)


def _delete_records_without_batch(trail: Trail) -> None:
    known = trail.connection.execute("SELECT writer, first, last FROM zt_audit.batch").fetchall()
    kept = [record_id(writer, n) for writer, first, last in known for n in range(first, last + 1)]
    trail.connection.execute("DELETE FROM zt_audit.decision WHERE id <> ALL(%s)", [kept])


CHANGES: tuple[LiteralString, ...] = (
    "number = number + 1000",
    "number = -number",
    "writer = writer + 1",
    "writer = 9223372036854775807",
    "first = first + 1000, last = last + 1000",
    "last = last + 1",
    "last = 9223372036854775807",
    "since = since - interval '1 hour'",
    "since = since + interval '1 microsecond'",
    "until = until + interval '1 year'",
    "until = 'infinity'",
    "since = '-infinity'",
    "since = '1999-01-01', until = '1999-01-01'",
    "since = NULL, until = NULL",
    "since = NULL, until = NULL, root = sha256('')",
    "root = sha256('x')",
    "root = sha256('')",
    "chain = sha256('x')",
)


def change_batch(trail: Trail, random: Random) -> None:
    statement = psycopg.sql.SQL("UPDATE zt_audit.batch SET {} WHERE number = %s").format(
        psycopg.sql.SQL(random.choice(CHANGES))
    )
    number = a_batch(trail, random)
    while number == 10:  # the lost one has no times to change
        number = a_batch(trail, random)
    trail.connection.execute(statement, [number])


def swap_batches(trail: Trail, random: Random) -> None:
    one, other = random.sample(range(1, trail.batches + 1), 2)
    for number, new in ((one, 10_000), (other, one), (10_000, other)):
        trail.run("UPDATE zt_audit.batch SET number = %s WHERE number = %s", new, number)


def attach_table(trail: Trail, random: Random) -> None:
    trail.connection.execute(
        "CREATE TABLE zt_audit.hidden PARTITION OF zt_audit.decision"
        " FOR VALUES FROM ('2001-01-01') TO ('2001-01-02 12:00')"
    )
    _insert(trail, random.choice([uuid4(), record_id(WRITER, 1)]), datetime(2001, 1, 1, tzinfo=UTC))


def drop_day(trail: Trail, random: Random) -> None:
    """One that is to be kept: the first, or one in the middle."""
    days = sorted({record.time.date() for record in trail.records})
    day = random.choice([0, 1, 2])
    if day == 0:
        trail.connection.execute(
            f"DROP TABLE zt_audit.decision_{now() - timedelta(days=4):%Y%m%d}".encode()
        )
    trail.connection.execute(f"DROP TABLE zt_audit.decision_{days[day]:%Y%m%d}".encode())


def pretend_loss(trail: Trail, random: Random) -> None:
    """Records that were never lost, chained as if they were."""
    del random
    trail.run(
        "UPDATE zt_audit.batch SET since = NULL, until = NULL, root = sha256('') WHERE number = 3"
    )


TAMPERINGS: dict[Tampering, set[Kind]] = {
    change_latency: {Kind.ROOT},
    change_outcome: {Kind.ROOT},
    change_time: {Kind.ROOT, Kind.MISSING},
    change_id: {Kind.MISSING},
    delete_record: {Kind.MISSING},
    delete_records_of_a_day: {Kind.MISSING},
    insert_record: {Kind.STRAY},
    insert_record_twice: {Kind.STRAY, Kind.MOVED},
    replace_record: {Kind.MISSING},
    swap_outcomes: {Kind.ROOT},
    swap_times: {Kind.MISSING, Kind.ROOT},
    rewrite_outcome: {Kind.OUTCOME},
    rename_outcome: {Kind.OUTCOME},
    delete_outcome: {Kind.ROOT},
    add_outcome: {Kind.OUTCOME},
    delete_batch: {Kind.CHAIN, Kind.STRAY},
    delete_batch_and_records: {Kind.CHAIN},
    change_batch: {Kind.CHAIN, Kind.BATCH, Kind.MISSING, Kind.ROOT, Kind.DROPPED, Kind.MOVED},
    swap_batches: {Kind.CHAIN},
    attach_table: {Kind.PARTITION},
    drop_day: {Kind.DROPPED, Kind.MISSING},
    pretend_loss: {Kind.CHAIN},
}


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1 << 32))
def test_tampering_is_noticed(trail: Trail, seed: int) -> None:
    random = Random(seed)  # noqa: S311 - not for secrets
    for constraint in ("batch_check", "batch_check1", "batch_check2", "batch_writer_check"):
        trail.connection.execute(
            f"ALTER TABLE zt_audit.batch DROP CONSTRAINT IF EXISTS {constraint}".encode()
        )
    for tampering, expected in TAMPERINGS.items():
        with trail.connection.transaction(force_rollback=True):
            tampering(trail, random)
            assert trail.kinds() & expected, tampering.__name__


def rewrite_everything(trail: Trail, record: AuditRecord) -> None:
    """Change a record, and root and chain with it."""
    trail.run("UPDATE zt_audit.decision SET latency_us = 7 WHERE id = %s", record.id)
    chain = bytes(32)
    rows = trail.connection.execute(
        "SELECT number, writer, first, last, since, until, root FROM zt_audit.batch ORDER BY number"
    ).fetchall()
    for row in map(Link._make, rows):
        written = {record.id: record for record in trail.records}
        link = row
        if record_id(row.writer, row.first) <= record.id <= record_id(row.writer, row.last):
            leaves = []
            for sequence in range(row.first, row.last + 1):
                one = written[record_id(row.writer, sequence)]
                latency = 7 if one.id == record.id else one.latency_us
                changed = AuditRecord(one.id, one.time, latency, one.outcome)
                leaves.append(leaf(row.writer, sequence, changed))
            link = row._replace(root=root(leaves))
        chain = next_link(chain, link)
        trail.run(
            "UPDATE zt_audit.batch SET root = %s, chain = %s WHERE number = %s",
            *(link.root, chain, link.number),
        )


def test_a_rewritten_chain_is_noticed_by_checkpoints_alone(trail: Trail) -> None:
    chains = trail.column("SELECT chain FROM zt_audit.batch ORDER BY number")
    middle = trail.records[len(trail.records) // 2]
    rewrite_everything(trail, middle)
    assert trail.kinds() == set()
    (rewritten,) = trail.column(
        "SELECT min(number) FROM zt_audit.batch AS now WHERE chain <> (%s::bytea[])[now.number]",
        chains,
    )
    earlier, later = (Checkpoint(n, chains[n - 1]) for n in (rewritten - 1, rewritten + 2))
    assert trail.kinds(earlier) == set()
    findings, summary = trail.verify(Checkpoint(0, bytes(32)), earlier, later)
    assert [(one.kind, one.batch) for one in findings] == [(Kind.CHECKPOINT, later.number)]
    assert (summary.checkpoints, summary.covered) == (3, earlier.number)


def test_a_trail_that_was_cut_is_noticed_by_checkpoints_alone(trail: Trail) -> None:
    trail.run("DELETE FROM zt_audit.batch WHERE number > %s", trail.batches - 2)
    _delete_records_without_batch(trail)
    assert trail.kinds() == set()
    assert trail.kinds(Checkpoint(trail.batches, trail.chain)) == {Kind.CHECKPOINT}


def test_checkpoints_come_from_a_folder_signed(trail: Trail, tmp_path: Path) -> None:
    checkpoint.write(tmp_path, Checkpoint(trail.batches, trail.chain), KEY)
    public = KEY.public_key()
    assert trail.kinds(*checkpoint.read(tmp_path, public)) == set()
    forged = Ed25519PrivateKey.generate()
    checkpoint.write(tmp_path, Checkpoint(3, bytes(32)), forged)
    with pytest.raises(CheckpointError, match="another key"):
        trail.kinds(*checkpoint.read(tmp_path, public))
