"""Logins of the audit database, as their DSNs say, and the roles that they are members of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

WRITER = ("zt_writer", "zt_reader")
KEEPER = ("zt_retention",)

_IS_THERE = "SELECT 1 FROM pg_catalog.pg_roles WHERE rolname = %s"


class LoginError(Exception):
    """A file can't be used; the message is one sentence that shows nothing of it."""


@dataclass(frozen=True, slots=True)
class Login:
    """A user of the database, and the schema's roles that it gets."""

    user: str
    password: str = field(repr=False)
    roles: tuple[str, ...]


def read_dsn(file: Path) -> str:
    """A DSN from its file.

    Raises:
        LoginError: if that can't be read, or is none.
    """
    try:
        dsn = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise LoginError(f"{file} can't be read: {reason}") from None
    _parts(dsn, file)
    return dsn


def login_of(file: Path, roles: tuple[str, ...]) -> Login:
    """The login whose DSN is in a file.

    Raises:
        LoginError: if it can't be read, or names no user and password.
    """
    parts = _parts(read_dsn(file), file)
    if not parts.get("user") or not parts.get("password"):
        raise LoginError(f"the DSN in {file} should say user and password")
    return Login(str(parts["user"]), str(parts["password"]), roles)


def _parts(dsn: str, file: Path) -> dict[str, Any]:
    try:
        found = conninfo_to_dict(dsn) if dsn else {}
    except psycopg.ProgrammingError:
        found = {}
    if not found:
        raise LoginError(
            f"{file} holds no DSN, such as postgresql://user:password@db.example/zt_audit"
        )
    return found


def have_logins(
    connection: psycopg.Connection[Any], logins: Sequence[Login], *, create: bool
) -> None:
    """Make logins members of their roles; with ``create`` make the logins as well.

    Those that are there get the password that their DSN says.
    """
    for login in logins:
        if create:
            _have(connection, login)
        grant = sql.SQL("GRANT {} TO {}").format(
            sql.SQL(", ").join(map(sql.Identifier, login.roles)), sql.Identifier(login.user)
        )
        connection.execute(grant)


def _have(connection: psycopg.Connection[Any], login: Login) -> None:
    """What is sent is the verifier, so that no log of the server shows a password."""
    known = connection.execute(_IS_THERE, [login.user]).fetchone()
    verifier = connection.pgconn.encrypt_password(
        login.password.encode(), login.user.encode(), b"scram-sha-256"
    )
    statement = sql.SQL("{} ROLE {} LOGIN PASSWORD {}").format(
        sql.SQL("ALTER" if known else "CREATE"),
        sql.Identifier(login.user),
        sql.Literal(verifier.decode()),
    )
    connection.execute(statement)


def sentence(error: psycopg.Error) -> str:
    """What the database says, on one line; statements, which may hold more, are not shown."""
    return error.diag.message_primary or str(error).strip().splitlines()[-1]
