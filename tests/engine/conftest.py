"""A real PostgreSQL with the audit schema, and what tests write into files."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from tests.engine.samples import TODAY, Authority, Desk, policy
from tests.postgres import serving
from zt.compile.audit import compile_audit
from zt.effective import effective

Write = Callable[[str], Path]


@dataclass(frozen=True)
class Database:
    """A database with the audit schema: ``dsn`` for the evaluator, ``admin`` for a superuser."""

    name: str
    dsn: str
    admin: str

    def rows(self) -> int:
        with psycopg.connect(self.admin) as connection:
            row = connection.execute("SELECT count(*) FROM zt_audit.trail").fetchone()
        assert row is not None
        return int(row[0])


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A connection string for a superuser."""
    with serving() as uri:
        with psycopg.connect(uri) as connection:
            connection.execute(_schema().encode())
            connection.execute("CREATE ROLE zt_engine LOGIN IN ROLE zt_writer, zt_reader")
        yield uri


@pytest.fixture
def database(postgres: str) -> Iterator[Database]:
    name = f"audit_{uuid4().hex}"
    admin = make_conninfo(postgres, dbname=name)
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        with psycopg.connect(admin) as inside:
            inside.execute(_schema().encode())
        yield Database(name, make_conninfo(admin, user="zt_engine"), admin)
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def _schema() -> str:
    (file,) = compile_audit(effective(policy(), TODAY), "east")
    return file.text()


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture
def write_policy(tmp_path: Path) -> Write:
    """``write_policy(text)`` puts a policy into the folder that it returns."""
    folder = tmp_path / "policies"
    folder.mkdir()

    def write(text: str) -> Path:
        (folder / "policy.yaml").write_text(text, encoding="utf-8")
        return folder

    return write
