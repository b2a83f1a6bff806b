"""Brings the audit database to the compiled schema: ``python -m engine.audit.migrate``.

All of it is one transaction, and can be done again and again. DSNs come in files, because they
carry passwords.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from engine.audit.logins import (
    KEEPER,
    WRITER,
    Login,
    LoginError,
    have_logins,
    login_of,
    read_dsn,
    sentence,
)

_CONNECT_TIMEOUT = 5
_PAUSE, _PATIENCE = 2.0, 300.0
_MISUSE, _FAILED = 2, 1
# One at a time; and nobody who asks waits for long behind what this waits for.
_ALONE = "SELECT pg_advisory_xact_lock(hashtextextended('zt_audit.migrate', 0))"
_LIMITS = "SET LOCAL lock_timeout = '10s'"


class MigrationError(Exception):
    """The database can't be brought there; the message is one sentence."""


@dataclass(frozen=True, slots=True)
class Migration:
    """The schema, who applies it, and who writes, reads and drops afterwards.

    With ``create`` the logins are made too, with the passwords that their DSNs say.
    """

    schema: str
    admin: str
    logins: tuple[Login, ...]
    create: bool

    def run(self, connection: psycopg.Connection[Any]) -> None:
        """Do all of it, or nothing.

        Raises:
            MigrationError: if the database refuses.
        """
        try:
            with connection.transaction():
                self._require_others(connection)
                for statement in (_ALONE, _LIMITS):
                    connection.execute(statement)
                connection.execute(self.schema.encode())
                have_logins(connection, self.logins, create=self.create)
        except psycopg.Error as error:
            raise MigrationError(f"the schema can't be applied: {sentence(error)}") from None

    def _require_others(self, connection: psycopg.Connection[Any]) -> None:
        for login in self.logins:
            if login.user == connection.info.user:
                raise MigrationError(
                    f"{login.user!r} owns the audit tables, so it must not write to them: give the"
                    " evaluator and the retention logins of their own"
                )


def connect(
    dsn: str,
    patience: float = _PATIENCE,
    sleep: Callable[[float], None] = time.sleep,
) -> psycopg.Connection[Any]:
    """A connection, as soon as the database takes one.

    Raises:
        MigrationError: if it takes none within ``patience`` seconds.
    """
    deadline = time.monotonic() + patience
    said = ""
    while True:
        try:
            return psycopg.connect(dsn, autocommit=True, connect_timeout=_CONNECT_TIMEOUT)
        except psycopg.OperationalError as error:
            why = sentence(error)
        if time.monotonic() > deadline:
            raise MigrationError(f"the database can't be reached: {why}")
        if why != said:
            _say(f"waiting for the database: {why}")
            said = why
        sleep(_PAUSE)


def main(arguments: Sequence[str], patience: float = _PATIENCE) -> int:
    """Migrate; 2 if it is told wrongly, 1 if the database refuses."""
    told = _arguments(arguments)
    try:
        migration = Migration(
            schema=_read(told.schema),
            admin=read_dsn(told.admin),
            logins=tuple(_logins(told)),
            create=told.create_logins,
        )
        with closing(connect(migration.admin, patience)) as connection:
            migration.run(connection)
    except LoginError as error:
        _say(str(error))
        return _MISUSE
    except MigrationError as error:
        _say(str(error))
        return _FAILED
    names = ", ".join(login.user for login in migration.logins) or "nobody new"
    _say(f"the schema is in force, for {names}")
    return 0


def _logins(told: _Told) -> Iterator[Login]:
    if told.writer:
        yield login_of(told.writer, WRITER)
    if told.keeper:
        yield login_of(told.keeper, KEEPER)


def _read(schema: Path) -> str:
    try:
        return schema.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise LoginError(f"the schema can't be read: {error}") from None


def _say(text: str) -> None:
    sys.stderr.write(f"engine.audit.migrate: {text}\n")


class _Told(argparse.Namespace):
    schema: Path
    admin: Path
    writer: Path | None
    keeper: Path | None
    create_logins: bool


def _arguments(arguments: Sequence[str]) -> _Told:
    parser = argparse.ArgumentParser("engine.audit.migrate")
    parser.add_argument("--schema", type=Path, required=True, help="file of the compiled schema")
    parser.add_argument("--admin", type=Path, required=True, help="file of the owner's DSN")
    parser.add_argument("--writer", type=Path, help="file of the evaluator's DSN")
    parser.add_argument("--keeper", type=Path, help="file of the DSN that drops what is old")
    parser.add_argument("--create-logins", action="store_true", help="make writer and keeper too")
    return parser.parse_args(arguments, _Told())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
