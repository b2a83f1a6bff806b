import stat
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from lab.mesh import database
from lab.mesh.addresses import claim_block
from lab.mesh.cleanup import claim
from lab.mesh.database import READER, WRITER, Database
from lab.mesh.folders import Folders
from lab.mesh.processes import Children, MeshError

SCHEMA = """
CREATE ROLE writes; CREATE ROLE reads;
CREATE TABLE note (text text);
GRANT INSERT ON note TO writes;
GRANT SELECT ON note TO reads;
"""


@pytest.fixture(params=["in place", "copied"])
def running(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Database]:
    """A server; also where root has installed it below a folder that others can't enter."""
    if request.param == "copied":
        monkeypatch.setattr(database, "_open_to_all", lambda _: False)
    folders = Folders(tmp_path / "mesh")
    claim(folders)
    children = Children(folders)
    block, holder = claim_block()
    found = Database(f"127.{block}.0.1", folders.passwords)
    try:
        children.start(database.program(database.prepare(found, folders)))
        while not database.is_ready(found):
            assert not children.dead(), children.obituary(database.NAME)
            time.sleep(0.02)
        yield found
    finally:
        children.stop()
        database.remove(folders)
        holder.close()


def test_roles_do_what_they_are_for_and_no_more(running: Database) -> None:
    database.create(running, SCHEMA, {WRITER: ("writes",), READER: ("reads",)})
    with psycopg.connect(running.dsn(WRITER)) as connection:
        connection.execute("INSERT INTO note VALUES ('here')")
    with psycopg.connect(running.dsn(READER)) as connection:
        assert connection.execute("SELECT text FROM note").fetchall() == [("here",)]
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("INSERT INTO note VALUES ('not here')")


def test_passwords_are_asked_for_and_kept_in_one_file(running: Database) -> None:
    assert stat.S_IMODE(running.passwords.stat().st_mode) == 0o600
    words = [line.split(":")[4] for line in running.passwords.read_text().splitlines()]
    assert len(set(words)) == 3
    assert not any(word in running.dsn(WRITER) for word in words)
    with pytest.raises(psycopg.OperationalError, match="no password supplied"):
        psycopg.connect(running.dsn(database.SUPERUSER), dbname="postgres", passfile="/dev/null")


def test_a_schema_that_does_not_apply_is_one_sentence(running: Database) -> None:
    with pytest.raises(MeshError, match="the audit schema does not apply: syntax error"):
        database.create(running, "CREATE TABEL x ();", {})


def test_a_missing_server_says_what_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_PACKAGE", "no_such_package")
    folders = Folders(tmp_path / "mesh")
    claim(folders)
    with pytest.raises(MeshError, match="PostgreSQL is missing: run `make setup`"):
        database.prepare(Database("127.0.0.1", folders.passwords), folders)
    database.remove(folders)
