"""The server's pod: its own commands against a real PostgreSQL, and the objects by their schema."""

import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import kubernetes_validate
import psycopg
import pytest

from components.postgres import SUPERUSER_KEY, Postgres, postgres_manifests
from components.settings import ClusterDatabase
from tests.components.machine import Machine, machine_of

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


@pytest.fixture
def machine() -> Iterator[Machine]:
    with machine_of(pod(SERVER)) as found:
        yield found


def test_a_new_volume_gets_a_database_and_one_that_stayed_gets_new_passwords(
    machine: Machine,
) -> None:
    machine.words(WORDS)
    machine.prepare()
    assert not any(word in machine.log.read_text() for word in WORDS.values())
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


def test_the_lock_of_a_server_that_died_with_its_node_is_in_nobodys_way(machine: Machine) -> None:
    """In a pod every first process has the same number, also that which prepares."""
    machine.words(WORDS)
    machine.prepare()
    machine.prepare(before="echo $$ > /var/lib/zt/data/postmaster.pid")
    with machine.serving():
        assert machine.ask("keeper", "second2", "SELECT 1") == [(1,)]


def test_a_server_that_runs_is_not_disturbed(machine: Machine) -> None:
    machine.words(WORDS)
    machine.prepare()
    with machine.serving():
        with pytest.raises(AssertionError, match="lock file"):
            machine.prepare()
        assert machine.ask("keeper", "second2", "SELECT 1") == [(1,)]
