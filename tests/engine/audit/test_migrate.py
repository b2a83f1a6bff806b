import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg import errors, sql
from psycopg.conninfo import make_conninfo

from engine.audit import migrate, retain
from engine.audit.database import TrailDatabase
from engine.audit.logins import KEEPER, WRITER, Login
from engine.audit.migrate import Migration, MigrationError, connect
from tests.engine.audit.trails import Trail
from tests.engine.conftest import Database, _schema

SCHEMA = _schema()


class Files:
    """DSNs in files, for logins that this test alone has."""

    def __init__(self, folder: Path, postgres: str, name: str) -> None:
        self.name = name
        self.schema = folder / "schema.sql"
        self.schema.write_text(SCHEMA)
        self.admin = self.put(folder / "admin", make_conninfo(postgres, dbname=name))
        self.writer_name, self.keeper_name = f"writer_{name}", f'keeper "{name}"'
        self.writer = self.put(folder / "writer", self._dsn(postgres, self.writer_name))
        self.keeper = self.put(folder / "keeper", self._dsn(postgres, self.keeper_name))

    def _dsn(self, postgres: str, user: str) -> str:
        return make_conninfo(postgres, dbname=self.name, user=user, password="s3'cret")

    @staticmethod
    def put(path: Path, text: str) -> Path:
        path.write_text(text + "\n")
        return path

    def arguments(self, *more: str) -> list[str]:
        files = ("schema", "admin", "writer", "keeper")
        return [*(f"--{name}={getattr(self, name)}" for name in files), *more]


@pytest.fixture
def files(postgres: str, tmp_path: Path) -> Iterator[Files]:
    """An empty database."""
    name = f"empty_{uuid4().hex}"
    found = Files(tmp_path, postgres, name)
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        yield found
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
        for role in (found.writer_name, found.keeper_name):
            connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(role)))


def test_an_empty_database_becomes_a_trail_for_logins_that_do_just_their_part(
    files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    assert migrate.main(files.arguments("--create-logins")) == 0
    said = capsys.readouterr().err
    assert "the schema is in force" in said
    assert "s3" not in said
    writer = TrailDatabase(files.writer.read_text().strip())
    assert writer.last_recorded(7) == 0
    writer.make_partitions_ahead()
    writer.close()
    with psycopg.connect(files.writer.read_text().strip(), autocommit=True) as login:
        for statement in (
            "DELETE FROM zt_audit.decision",
            "SELECT zt_audit.drop_before(current_date)",
        ):
            with pytest.raises(errors.InsufficientPrivilege):
                login.execute(statement.encode())
    with psycopg.connect(files.keeper.read_text().strip(), autocommit=True) as keeper:
        assert keeper.execute("SELECT zt_audit.retention_days()").fetchone() == (365,)
        with pytest.raises(errors.InsufficientPrivilege):
            keeper.execute("SELECT * FROM zt_audit.trail")


def test_it_can_be_done_again_and_sets_the_passwords_that_hold_now(files: Files) -> None:
    def verifiers() -> dict[str, str]:
        query = "SELECT rolname, rolpassword FROM pg_authid WHERE rolname IN (%s, %s)"
        with psycopg.connect(files.admin.read_text()) as admin:
            return dict(admin.execute(query, [files.writer_name, files.keeper_name]).fetchall())

    assert migrate.main(files.arguments("--create-logins")) == 0
    before = verifiers()
    assert migrate.main(files.arguments("--create-logins")) == 0
    after = verifiers()
    assert before.keys() == after.keys() == {files.writer_name, files.keeper_name}
    # Salted anew each time; the server has never seen the password itself.
    assert all(word.startswith("SCRAM-SHA-256$") for word in (*before.values(), *after.values()))
    assert not set(before.values()) & set(after.values())


def test_it_can_be_done_at_the_same_time(files: Files) -> None:
    results: list[int] = []

    def run() -> None:
        results.append(migrate.main(files.arguments("--create-logins")))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [0] * 4


def test_without_rights_of_a_superuser(files: Files, postgres: str) -> None:
    """As where a provider made the logins: its administrator may create roles, no more."""
    admin = f"admin_{files.name}"
    with psycopg.connect(postgres, autocommit=True) as root:
        for role in ("zt_owner", "zt_writer", "zt_reader", "zt_retention"):
            root.execute(f"GRANT {role} TO {_login(root, admin)} WITH ADMIN OPTION".encode())
        root.execute(f'GRANT CREATE ON DATABASE {files.name} TO "{admin}"'.encode())
        for role in (files.writer_name, files.keeper_name):
            _login(root, role)
    files.put(files.admin, make_conninfo(postgres, dbname=files.name, user=admin))
    try:
        assert migrate.main(files.arguments()) == 0
        assert migrate.main(files.arguments()) == 0
        writer = TrailDatabase(files.writer.read_text().strip())
        assert writer.last_recorded(7) == 0
        writer.close()
    finally:
        with psycopg.connect(make_conninfo(postgres, dbname=files.name), autocommit=True) as root:
            root.execute(f'DROP OWNED BY "{admin}" CASCADE'.encode())
            root.execute(f'DROP ROLE "{admin}"'.encode())


def _login(root: psycopg.Connection[tuple[object, ...]], name: str) -> str:
    quoted = sql.Identifier(name).as_string(root)
    query = "SELECT 1 FROM pg_roles WHERE rolname = %s"
    if root.execute(query, [name]).fetchone() is None:
        root.execute(f"CREATE ROLE {quoted} LOGIN CREATEROLE".encode())
    return quoted


def test_nothing_is_done_by_halves(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    files.schema.write_text(SCHEMA + "SELECT 1 / 0;")
    assert migrate.main(files.arguments("--create-logins")) == 1
    assert "the schema can't be applied: division by zero" in capsys.readouterr().err
    with psycopg.connect(files.admin.read_text()) as admin:
        query = "SELECT count(*) FROM pg_namespace WHERE nspname = 'zt_audit'"
        assert admin.execute(query).fetchone() == (0,)


def test_who_owns_the_trail_may_not_be_its_writer(files: Files) -> None:
    with psycopg.connect(files.admin.read_text(), autocommit=True) as admin:
        login = Login(admin.info.user, "word", WRITER)
        migration = Migration(SCHEMA, "", (login,), create=False)
        with pytest.raises(MigrationError, match="owns the audit tables"):
            migration.run(admin)


def test_a_database_that_is_away_is_waited_for(
    files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    away = make_conninfo(files.admin.read_text(), port=1)
    with pytest.raises(MigrationError, match="can't be reached"):
        connect(away, 0.2, lambda _: None)
    assert capsys.readouterr().err.count("waiting for the database") == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no DSN"),
        ("host='s3cret", "holds no DSN"),
        ("dbname=x user=who", "should say user and password"),
    ],
)
def test_a_dsn_that_is_none_is_refused_and_not_shown(
    files: Files, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    files.put(files.writer, text)
    assert migrate.main(files.arguments()) == 2
    found = capsys.readouterr().err
    assert said in found
    assert "s3cret" not in found


def test_a_missing_file_is_named(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    files.keeper.unlink()
    assert migrate.main(files.arguments()) == 2
    assert f"{files.keeper} can't be read: No such file" in capsys.readouterr().err
    files.schema.unlink()
    assert migrate.main(files.arguments()) == 2


# --- What is old ----------------------------------------------------------------------------------


def _partition(database: Database, days_ago: int) -> str:
    day = (datetime.now(UTC) - timedelta(days_ago)).date()
    Trail(database.admin).execute(f"SELECT zt_audit.add_partition('{day}')")
    return f"decision_{day:%Y%m%d}"


def _keeper(database: Database) -> str:
    return f"{database.admin} options='-c role=zt_retention'"


def test_days_that_are_old_go_and_the_others_stay(
    database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, oldest_kept = _partition(database, 366), _partition(database, 365)
    dsn = Files.put(tmp_path / "keeper", _keeper(database))
    assert retain.main([f"--keeper={dsn}"]) == 0
    assert f"dropped {old}\n" in capsys.readouterr().err
    assert retain.main([f"--keeper={dsn}"]) == 0
    assert "nothing is old enough" in capsys.readouterr().err
    query = "SELECT relname FROM pg_class WHERE relname LIKE 'decision_2%' AND relkind = 'r'"
    assert Trail(database.admin).rows(query) == [(oldest_kept,)]


def test_a_reader_is_waited_for(database: Database) -> None:
    old = _partition(database, 400)
    with (
        psycopg.connect(database.admin) as reader,
        psycopg.connect(_keeper(database), autocommit=True) as keeper,
    ):
        reader.execute("SELECT * FROM zt_audit.decision")
        with pytest.raises(errors.LockNotAvailable):
            retain.drop(keeper, 1)
        assert retain.drop(keeper, 2, lambda _: reader.rollback()) == [old]


def test_retention_says_what_is_wrong(
    database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert retain.main([f"--keeper={tmp_path / 'none'}"]) == 2
    writer = Files.put(tmp_path / "writer", f"{database.admin} options='-c role=zt_writer'")
    assert retain.main([f"--keeper={writer}"]) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert "No such file" in first
    assert "nothing was dropped: permission denied for function" in second


def test_the_keeper_may_just_drop() -> None:
    assert KEEPER == ("zt_retention",)
