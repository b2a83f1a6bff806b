"""The server's pod: its own commands against a real PostgreSQL, and the objects by their schema."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import kubernetes_validate
import psycopg
import pytest

from components.postgres import SUPERUSER_KEY, Postgres, postgres_manifests
from components.settings import ClusterDatabase
from lab.mesh.database import _programs

SERVER = Postgres(
    name="spire-datastore",
    namespace="spire-system",
    image="postgres:18",
    settings=ClusterDatabase(storage="1Gi"),
    database="spire",
    owner="keeper",
    secret="spire-datastore",
    labels={"app": "spire-datastore"},
    account="spire-datastore",
)
WORDS = {SUPERUSER_KEY: "first1", "keeper": "second2"}
# Reaches `postgres` and `sh` alone.
SYSTEM = "/usr/bin:/bin"


def manifest(server: Postgres, kind: str) -> Any:  # noqa: ANN401 - JSON
    (found,) = (item for item in postgres_manifests(server) if item["kind"] == kind)
    return found


def pod(server: Postgres) -> Any:  # noqa: ANN401 - JSON
    return manifest(server, "StatefulSet")["spec"]["template"]["spec"]


@pytest.mark.parametrize("version", ["1.30", "1.35"])
@pytest.mark.parametrize(
    "server",
    [
        SERVER,
        replace(SERVER, tls=True, settings=ClusterDatabase(storage="1Gi", storage_class="fast")),
    ],
)
def test_the_objects_are_valid(server: Postgres, version: str) -> None:
    for item in postgres_manifests(server):
        kubernetes_validate.validate(item, version, strict=True)


def test_passwords_are_seen_by_who_sets_them_alone() -> None:
    found = pod(SERVER)
    (prepare,), (server,) = found["initContainers"], found["containers"]
    assert "passwords" in {mount["name"] for mount in prepare["volumeMounts"]}
    assert "passwords" not in {mount["name"] for mount in server["volumeMounts"]}


def test_with_tls_there_is_no_way_around_it() -> None:
    found = pod(replace(SERVER, tls=True))
    (prepare,), (server,) = found["initContainers"], found["containers"]
    assert {"name": "HOST", "value": "hostssl"} in prepare["env"]
    assert "ssl=on" in server["command"]
    assert {"tls", "data"} <= {mount["name"] for mount in server["volumeMounts"]}


def test_the_volume_outlives_the_stack() -> None:
    spec = manifest(SERVER, "StatefulSet")["spec"]
    assert set(spec["persistentVolumeClaimRetentionPolicy"].values()) == {"Retain"}


# --- Its commands ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Machine:
    """A folder that plays the pod's file system, and the user that plays the pod's."""

    root: Path
    programs: Path
    user: int | None
    port: int

    def run(self, command: list[str], env: dict[str, str]) -> subprocess.Popen[str]:
        with self.log.open("a") as log:
            return subprocess.Popen(
                [self.inside(part) for part in command],
                cwd="/",
                env={"PATH": f"{self.programs}:{SYSTEM}", "LC_ALL": "C", **env},
                user=self.user,
                group=self.user,
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
            )

    @property
    def log(self) -> Path:
        return self.root / "log"

    def inside(self, text: str) -> str:
        for folder in ("/var/lib/zt", "/run/zt"):
            text = text.replace(folder, f"{self.root}{folder}")
        return text

    def words(self, words: dict[str, str]) -> None:
        folder = self.root / "run/zt/passwords"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for key, word in words.items():
            (folder / key).write_text(word)

    def prepare(self) -> None:
        (container,) = pod(SERVER)["initContainers"]
        env = {item["name"]: item["value"] for item in container["env"]}
        program = self.run(container["command"], env)
        assert program.wait() == 0, self.log.read_text()
        said = self.log.read_text()
        assert not any(word in said for word in WORDS.values())

    @contextmanager
    def serving(self) -> Iterator[None]:
        (container,) = pod(SERVER)["containers"]
        command = [*container["command"], "-c", f"port={self.port}"]
        program = self.run(command, {})
        ready = container["readinessProbe"]["exec"]["command"]
        try:
            while self.run([*ready, f"--port={self.port}"], {}).wait():
                assert program.poll() is None, self.log.read_text()
            yield
        finally:
            stop = container["lifecycle"]["preStop"]["exec"]["command"]
            self.run(stop, {}).wait()
            program.wait()

    def ask(self, user: str, word: str, query: str, database: str = "spire") -> object:
        with psycopg.connect(
            host="127.0.0.1", port=self.port, dbname=database, user=user, password=word
        ) as connection:
            cursor = connection.execute(query.encode())
            return cursor.fetchall() if cursor.description else None


@pytest.fixture
def machine() -> Iterator[Machine]:
    user = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None
    root = Path(tempfile.mkdtemp(prefix="zt-pod-"))
    try:
        (root / "var/lib/zt").mkdir(parents=True)
        if user is not None:
            root.chmod(0o755)
            os.chown(root / "var/lib/zt", user, user)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        yield Machine(root, _programs(root, user), user, port)
    finally:
        shutil.rmtree(root)


def test_a_new_volume_gets_a_database_and_one_that_stayed_gets_new_passwords(
    machine: Machine,
) -> None:
    machine.words(WORDS)
    machine.prepare()
    with machine.serving():
        machine.ask("keeper", "second2", "CREATE TABLE kept AS SELECT 1 AS number")
        assert machine.ask(
            "postgres", "first1", "SELECT rolsuper FROM pg_roles WHERE rolname = 'keeper'"
        ) == [(False,)]
        for word in ("first1", ""):
            with pytest.raises(psycopg.OperationalError, match="password"):
                machine.ask("keeper", word, "SELECT 1")
    # The stack was destroyed and made again: its volume stayed, its Secret is another.
    machine.words({SUPERUSER_KEY: "third3", "keeper": "fourth4"})
    machine.prepare()
    with machine.serving():
        assert machine.ask("keeper", "fourth4", "SELECT number FROM kept") == [(1,)]
        assert machine.ask("postgres", "third3", "SELECT 1", "postgres") == [(1,)]
        with pytest.raises(psycopg.OperationalError, match="password"):
            machine.ask("keeper", "second2", "SELECT 1")


def test_what_a_killed_start_left_half_made_is_made_anew(machine: Machine) -> None:
    machine.words({})
    half = machine.root / "var/lib/zt/data.new"
    half.mkdir()
    (half / "PG_VERSION").write_text("18\n")
    if machine.user is not None:
        os.chown(half, machine.user, machine.user)
    machine.words(WORDS)
    machine.prepare()
    with machine.serving():
        assert machine.ask("keeper", "second2", "SELECT 1") == [(1,)]
