"""The audit schema, on a real PostgreSQL."""

import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from hashlib import sha256
from time import sleep as pause
from typing import LiteralString
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import Connection, errors, sql
from psycopg.conninfo import make_conninfo

from tests.postgres import serving
from zt.compile.audit import compile_audit
from zt.effective import effective
from zt.model import Cluster, Lifetimes, Mesh, Policy
from zt.values import parse_network

KEPT = 365
MESH = Mesh(
    "test",
    "hanzo.ai",
    (Cluster("east", parse_network("10.0.0.0/16"), parse_network("10.1.0.0/16")),),
    lifetimes=Lifetimes(audit=KEPT * 86400),
)

Connect = Callable[[str], Connection]
OUTCOME = UUID(int=42)
INSERT_OUTCOME: LiteralString = """
    INSERT INTO zt_audit.outcome
      (id, verdict, would_be, phase, source_id, destination_id, destination_port, rule, reason,
       layer, revision)
    VALUES (%(id)s, %(verdict)s, 'DENY', 'enforce', 'spiffe://hanzo.ai/east/web/shop',
       'spiffe://hanzo.ai/east/data/db', 5432, 'core/rule-1', 'rule', 'evaluator',
       '0123456789abcdef')
"""
INSERT: LiteralString = """
    INSERT INTO zt_audit.decision (id, time, outcome, latency_us) VALUES (%s, %s, %s, 42)
"""
# Everything that changes a record, or takes it away.
KEPT_TABLES: tuple[LiteralString, ...] = ("decision", "outcome", "batch")
CHANGES: tuple[LiteralString, ...] = (
    "UPDATE zt_audit.{table} SET {column} = {column}",
    "DELETE FROM zt_audit.{table}",
    "TRUNCATE zt_audit.{table}",
    "DROP TABLE zt_audit.{table} CASCADE",
    "ALTER TABLE zt_audit.{table} DISABLE TRIGGER ALL",
)
BATCH: LiteralString = "SELECT number, chain FROM zt_audit.add_batch(%s, %s, %s, %s, %s, %s)"
COUNT: LiteralString = "SELECT zt_audit.add_counts(%s, %s, %s, %s, %s, %s, %s)"
NO_BATCH: LiteralString = "SELECT zt_audit.add_batch(1, 1, 1, now(), now(), sha256('x'))"
NO_COUNT: LiteralString = "SELECT zt_audit.add_counts('{}', '{}', '{}', '{}', '{}', '{}', '{}')"
RESUME: LiteralString = "SELECT zt_audit.last_recorded(1)"
READ: tuple[LiteralString, ...] = tuple(
    "TABLE zt_audit." + name for name in (*KEPT_TABLES, "edge_count", "trail")
)
ENSURE: LiteralString = "SELECT zt_audit.ensure_partitions(current_date, 1)"
ADD: LiteralString = "SELECT zt_audit.add_partition('2000-01-01')"
DROP: LiteralString = "SELECT zt_audit.drop_before('2000-01-01')"


def schema(mesh: Mesh = MESH) -> str:
    (file,) = compile_audit(effective(Policy(mesh), date(2026, 11, 23)), "east")
    assert file.path == "audit/schema.sql"
    return file.text()


def run(connection: Connection, text: str) -> None:
    """What ``psql --single-transaction`` does."""
    with connection.transaction():
        connection.execute(text.encode())


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A connection string for a superuser."""
    with serving() as uri:
        yield uri


@pytest.fixture
def connect(server: str) -> Iterator[Connect]:
    """``connect("zt_writer")``: a session of that role in a database of this test's own."""
    name = f"audit_{uuid4().hex}"
    open_connections: list[Connection] = []

    def session(role: str) -> Connection:
        connection = psycopg.connect(make_conninfo(server, dbname=name), autocommit=True)
        open_connections.append(connection)
        if role != "postgres":
            connection.execute(sql.SQL("SET SESSION AUTHORIZATION {}").format(sql.Identifier(role)))
        return connection

    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        run(session("postgres"), schema())
        yield session
        for connection in open_connections:
            connection.close()
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def utc_today() -> date:
    return datetime.now(UTC).date()


def noon(day: date) -> datetime:
    return datetime.combine(day, time(12), UTC)


def changes(table: str) -> list[sql.Composed]:
    column = sql.Identifier({"batch": "number", "edge_count": "start"}.get(table, "id"))
    return [
        sql.SQL(change).format(table=sql.Identifier(table), column=column) for change in CHANGES
    ]


def insert(connection: Connection, day: date) -> None:
    connection.execute(INSERT, [uuid4(), noon(day), OUTCOME])


def root(text: str) -> bytes:
    return sha256(text.encode()).digest()


def add_batch(connection: Connection, writer: int, first: int, last: int) -> tuple[int, bytes]:
    now = noon(utc_today())
    values = [writer, first, last, now, now, root(f"{writer} {first}")]
    row = connection.execute(BATCH, values).fetchone()
    assert row is not None
    return row[0], row[1]


def with_a_record(connect: Connect) -> Connection:
    """A superuser's session, after the writer has written one decision today."""
    writer = connect("zt_writer")
    writer.execute("SELECT zt_audit.ensure_partitions(%s, 1)", [utc_today()])
    writer.execute(INSERT_OUTCOME, {"id": OUTCOME, "verdict": "DENY"})
    insert(writer, utc_today())
    add_batch(writer, 7, 1, 1)
    return connect("postgres")


def count(connection: Connection) -> int:
    row = connection.execute("SELECT count(*) FROM zt_audit.trail").fetchone()
    assert row is not None
    return int(row[0])


def partitions(connection: Connection) -> list[str]:
    rows = connection.execute(
        "SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid"
        " WHERE inhparent = 'zt_audit.decision'::regclass ORDER BY relname"
    )
    return [row[0] for row in rows]


def partition(day: date) -> str:
    return f"decision_{day:%Y%m%d}"


def test_the_schema_can_be_applied_again_and_keeps_the_records(connect: Connect) -> None:
    admin = with_a_record(connect)
    run(admin, schema())
    assert count(admin) == 1


def test_who_may_create_roles_and_schemas_can_apply_it_without_being_superuser(
    connect: Connect,
) -> None:
    admin = connect("postgres")
    for statement in ("DROP SCHEMA zt_audit CASCADE", "DROP OWNED BY zt_owner CASCADE"):
        admin.execute(statement)
    for role in ("zt_owner", "zt_writer", "zt_reader", "zt_retention"):
        admin.execute(sql.SQL("DROP OWNED BY {r}; DROP ROLE {r}").format(r=sql.Identifier(role)))
    admin.execute("CREATE ROLE administrator LOGIN CREATEROLE")
    admin.execute(
        sql.SQL("GRANT CREATE ON DATABASE {} TO administrator").format(
            sql.Identifier(admin.info.dbname)
        )
    )
    other = connect("administrator")
    run(other, schema())
    run(other, schema())
    with_a_record(connect)
    with pytest.raises(errors.InsufficientPrivilege):
        other.execute("DELETE FROM zt_audit.decision")


def test_the_writer_inserts_and_copies(connect: Connect) -> None:
    admin = with_a_record(connect)
    writer = connect("zt_writer")
    writer.execute(INSERT_OUTCOME + " ON CONFLICT DO NOTHING", {"id": OUTCOME, "verdict": "DENY"})
    with (
        writer.cursor() as cursor,
        cursor.copy("COPY zt_audit.decision (id, time, outcome, latency_us) FROM STDIN") as copy,
    ):
        copy.write_row((uuid4(), noon(utc_today()), OUTCOME, 1))
    assert count(admin) == 2


@pytest.mark.parametrize(
    ("role", "others"),
    [
        ("zt_writer", (*READ, DROP, ADD)),
        ("zt_reader", (DROP, ENSURE, ADD, NO_BATCH, NO_COUNT, RESUME)),
        ("zt_retention", (*READ, ENSURE, ADD, NO_BATCH, NO_COUNT, RESUME)),
        ("stranger", (*READ, DROP, ENSURE, ADD, NO_BATCH, NO_COUNT, RESUME)),
    ],
)
def test_a_role_may_do_no_more_than_its_task(
    connect: Connect, role: str, others: tuple[LiteralString, ...]
) -> None:
    admin = with_a_record(connect)
    if role == "stranger":
        admin.execute("CREATE ROLE stranger")
    session = connect(role)
    forbidden: list[sql.Composed | LiteralString] = [*others]
    forbidden += [change for table in (*KEPT_TABLES, "edge_count") for change in changes(table)]
    for statement in forbidden:
        with pytest.raises(errors.InsufficientPrivilege):
            session.execute(statement)
    assert count(admin) == 1


@pytest.mark.parametrize("role", ["zt_reader", "zt_retention"])
def test_only_the_writer_inserts(connect: Connect, role: str) -> None:
    with_a_record(connect)
    with pytest.raises(errors.InsufficientPrivilege):
        insert(connect(role), utc_today())
    with pytest.raises(errors.InsufficientPrivilege):
        connect(role).execute(INSERT_OUTCOME, {"id": uuid4(), "verdict": "DENY"})


def test_the_reader_reads(connect: Connect) -> None:
    with_a_record(connect)
    assert count(connect("zt_reader")) == 1


@pytest.mark.parametrize("reapplied", [False, True], ids=["once", "twice"])
def test_not_even_a_superuser_changes_a_record(connect: Connect, *, reapplied: bool) -> None:
    admin = with_a_record(connect)
    if reapplied:
        run(admin, schema())
    for replication in ("origin", "replica"):
        admin.execute(
            sql.SQL("SET session_replication_role = {}").format(sql.Identifier(replication))
        )
        for table in (*KEPT_TABLES, partition(utc_today())):
            for change in changes(table)[:3]:
                with pytest.raises(errors.RestrictViolation, match="append-only"):
                    admin.execute(change)
    assert count(admin) == 1


def test_a_record_of_a_day_without_partition_is_refused(connect: Connect) -> None:
    with_a_record(connect)
    with pytest.raises(errors.CheckViolation, match="no partition"):
        insert(connect("zt_writer"), utc_today() + timedelta(1))


def test_a_verdict_is_allow_or_deny(connect: Connect) -> None:
    with_a_record(connect)
    with pytest.raises(errors.CheckViolation, match="verdict"):
        connect("zt_writer").execute(INSERT_OUTCOME, {"id": uuid4(), "verdict": "MAYBE"})


def test_a_decision_is_recorded_once(connect: Connect) -> None:
    with_a_record(connect)
    record = [uuid4(), noon(utc_today()), OUTCOME]
    writer = connect("zt_writer")
    writer.execute(INSERT, record)
    with pytest.raises(errors.UniqueViolation):
        writer.execute(INSERT, record)


def test_batches_are_numbered_and_chained_over_all_writers(connect: Connect) -> None:
    writer = connect("zt_writer")
    chain = bytes(32)
    stretches = [(5, 1, 10), (9, 1, 1), (5, 11, 11), (5, 12, 5000), (9, 2, 4)]
    for number, (who, first, last) in enumerate(stretches, 1):
        at = int(noon(utc_today()).timestamp()) * 1_000_000
        numbers = struct.pack(">QQQQqq", number, who, first, last, at, at)
        chain = sha256(b"\x02" + chain + numbers + root(f"{who} {first}")).digest()
        assert add_batch(writer, who, first, last) == (number, chain)
    for who, last in ((5, 5000), (9, 4), (6, 0)):
        row = writer.execute("SELECT zt_audit.last_recorded(%s)", [who]).fetchone()
        assert row == (last,)


@pytest.mark.parametrize(("first", "last"), [(1, 10), (11, 20), (5, 11), (13, 13), (0, 3)])
def test_a_batch_that_does_not_follow_is_refused(connect: Connect, first: int, last: int) -> None:
    writer = connect("zt_writer")
    add_batch(writer, 5, 1, 10)
    add_batch(writer, 5, 11, 11)
    with pytest.raises(errors.ObjectNotInPrerequisiteState, match="does not follow"):
        add_batch(writer, 5, first, last)


def test_of_two_who_add_the_same_batch_at_once_one_fails(connect: Connect) -> None:
    slow, fast = connect("zt_writer"), connect("zt_writer")
    slow.execute("BEGIN")
    add_batch(slow, 5, 1, 10)
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(add_batch, fast, 5, 1, 7)
        wait_for_a_lock(connect("postgres"))
        slow.execute("COMMIT")
        with pytest.raises(errors.ObjectNotInPrerequisiteState):
            other.result()
    assert add_batch(fast, 5, 11, 12)[0] == 2


def wait_for_a_lock(admin: Connection) -> None:
    waiting = "SELECT FROM pg_stat_activity WHERE wait_event = 'advisory'"
    for _ in range(500):
        if admin.execute(waiting).rowcount:
            return
        pause(0.01)
    pytest.fail("nobody waits for the lock")


def test_lost_records_are_a_batch_without_times_and_with_the_root_of_nothing(
    connect: Connect,
) -> None:
    writer = connect("zt_writer")
    writer.execute(BATCH, [5, 1, 3, None, None, root("")])
    now = noon(utc_today())
    for values in ([5, 4, 4, None, None, root("x")], [5, 4, 4, now, now, root("")]):
        with pytest.raises(errors.CheckViolation):
            writer.execute(BATCH, values)


def test_counts_add_up_by_hour_by_day_and_ever(connect: Connect) -> None:
    writer, day = connect("zt_writer"), utc_today()
    writer.execute("SET TimeZone = 'Asia/Kolkata'")
    at = [datetime.combine(day, time(hour, 59), UTC) for hour in (0, 0, 13)]
    for _ in range(2):
        lists = [["", "a", ""], ["d"] * 3, [5] * 3, [1, 0, 2], [0, 7, 1], [1, 0, 0], at]
        writer.execute(COUNT, lists)
    rows = connect("zt_reader").execute(
        "SELECT span, start, source_id, allowed, denied, would_deny, last_seen"
        " FROM zt_audit.edge_count ORDER BY 1, 2, 3"
    )
    midnight, afternoon = (datetime.combine(day, time(hour), UTC) for hour in (0, 13))
    assert rows.fetchall() == [
        ("day", midnight, "", 6, 2, 2, at[2]),
        ("day", midnight, "a", 0, 14, 0, at[1]),
        ("ever", datetime.fromtimestamp(0, UTC), "", 6, 2, 2, at[2]),
        ("ever", datetime.fromtimestamp(0, UTC), "a", 0, 14, 0, at[1]),
        ("hour", midnight, "", 2, 0, 2, at[0]),
        ("hour", midnight, "a", 0, 14, 0, at[1]),
        ("hour", afternoon, "", 4, 2, 0, at[2]),
    ]


def test_counts_that_nobody_reads_any_more_go(connect: Connect) -> None:
    writer, admin = connect("zt_writer"), connect("postgres")
    seen = [noon(utc_today() - timedelta(age)) for age in (8, 10, KEPT + 3)]
    writer.execute(COUNT, [[""] * 3, ["d"] * 3, [5] * 3, [1] * 3, [0] * 3, [0] * 3, seen])
    writer.execute("SELECT zt_audit.ensure_partitions(%s, 1)", [utc_today()])
    rows = admin.execute(
        "SELECT span, count(*)::int FROM zt_audit.edge_count GROUP BY 1 ORDER BY 1"
    )
    assert rows.fetchall() == [("day", 2), ("ever", 1), ("hour", 1)]


def test_days_begin_at_midnight_utc_wherever_the_client_is(connect: Connect) -> None:
    writer, day = connect("zt_writer"), utc_today()
    writer.execute("SET TimeZone = 'Pacific/Kiritimati'")
    writer.execute("SELECT zt_audit.ensure_partitions(%s, 1)", [day])
    for moment in (time(0), time(23, 59, 59, 999999)):
        at = datetime.combine(day, moment, UTC)
        writer.execute(INSERT, [uuid4(), at, OUTCOME])
    assert partitions(connect("postgres")) == [partition(day)]


def test_writers_that_make_the_same_partitions_at_once_do_not_fail(connect: Connect) -> None:
    writers = [connect("zt_writer") for _ in range(4)]
    for writer in writers:
        writer.execute("SET TimeZone = 'UTC'")
    with ThreadPoolExecutor(len(writers)) as pool:
        list(
            pool.map(
                lambda writer: writer.execute(
                    "SELECT zt_audit.ensure_partitions(%s, 31)", [utc_today()]
                ),
                writers,
            )
        )
    wanted = [partition(utc_today() + timedelta(number)) for number in range(31)]
    assert partitions(connect("postgres")) == wanted


@pytest.mark.parametrize(("offset", "days"), [(0, 0), (0, 32), (32, 1), (-KEPT - 1, 1)])
def test_a_writer_cannot_make_partitions_without_bound(
    connect: Connect, offset: int, days: int
) -> None:
    with pytest.raises(errors.InvalidParameterValue, match="1 to 31 days"):
        connect("zt_writer").execute(
            "SELECT zt_audit.ensure_partitions(%s, %s)", [utc_today() + timedelta(offset), days]
        )


def test_retention_drops_what_is_old_and_refuses_what_is_young(connect: Connect) -> None:
    admin, retention = with_a_record(connect), connect("zt_retention")
    oldest = utc_today() - timedelta(KEPT)
    old = [oldest - timedelta(number) for number in (400, 2, 1)]
    for day in (*old, oldest):
        admin.execute("SELECT zt_audit.add_partition(%s)", [day])
        insert(admin, day)
    for refused in (oldest + timedelta(1), utc_today(), date.max, None):
        with pytest.raises(errors.RestrictViolation, match=f"kept {KEPT} days"):
            retention.execute("SELECT zt_audit.drop_before(%s)", [refused])
    assert count(admin) == 5
    dropped = retention.execute("SELECT zt_audit.drop_before(%s)", [oldest]).fetchall()
    assert [row[0] for row in dropped] == [partition(day) for day in old]
    assert partitions(admin) == [partition(oldest), partition(utc_today())]
    assert count(admin) == 2


def test_every_function_has_a_search_path_of_its_own(connect: Connect) -> None:
    rows = connect("postgres").execute(
        "SELECT proname, proconfig FROM pg_proc WHERE pronamespace = 'zt_audit'::regnamespace"
    )
    found: dict[str, list[str] | None] = dict(rows)
    assert len(found) == 9
    for name, config in found.items():
        assert "search_path=pg_catalog, pg_temp" in (config or []), name


@pytest.mark.parametrize(("seconds", "days"), [(1, 1), (86400, 1), (86401, 2), (365 * 86400, 365)])
def test_retention_is_never_shorter_than_the_mesh_says(seconds: int, days: int) -> None:
    mesh = replace(MESH, lifetimes=Lifetimes(audit=seconds))
    assert f"AS 'SELECT {days}';" in schema(mesh)
