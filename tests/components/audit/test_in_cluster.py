"""A database in the cluster, from its recipes to who may do what, by the programs of its pods."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from psycopg import errors
from psycopg.conninfo import make_conninfo

from components.audit.access import access_of
from components.audit.in_cluster import database_manifests, database_of, recipes
from components.settings import ClusterDatabase
from engine.audit import migrate, retain
from engine.kubernetes.recipes import Recipe, values_of
from engine.kubernetes.recipes import password as new_password
from tests.components.machine import Machine, machine_of
from tests.components.spire.cases import LAB, bundle_of

BUNDLE = bundle_of("hanzo-k8s")
ACCESS = access_of(LAB)


def secrets() -> dict[str, dict[str, str]]:
    """The Secrets as the Job would make them."""
    return {
        item.secret: values_of(
            Recipe(item.namespace, item.secret, item.passwords, item.texts), {}, new_password
        )
        for item in recipes(database_of(BUNDLE), ACCESS.writer)
    }


def files(folder: Path, machine: Machine, made: dict[str, dict[str, str]]) -> dict[str, str]:
    """The DSNs as the Jobs mount them; the way through the sidecars is cut short."""
    found = {}
    references = {"admin": ACCESS.admin, "writer": ACCESS.writer, "keeper": ACCESS.keeper}
    for name, reference in references.items():
        assert reference is not None
        dsn = make_conninfo(
            made[reference.secret][reference.key], hostaddr="127.0.0.1", port=machine.port
        )
        (folder / name).write_text(dsn)
        found[name] = dsn
    (folder / "schema").write_text(BUNDLE.file("audit/schema.sql").text())
    return found


def test_from_nothing_to_a_trail_that_nobody_can_rewrite(tmp_path: Path) -> None:
    assert isinstance(LAB.audit, ClusterDatabase)
    *_, stateful_set = database_manifests(BUNDLE, LAB, LAB.audit, database_of(BUNDLE))
    made = secrets()
    with machine_of(stateful_set["spec"]["template"]["spec"]) as machine:
        machine.words(made["zt-audit-admin"])
        machine.prepare()
        with machine.serving():
            dsns = files(tmp_path, machine, made)
            told = [
                f"--{name}={tmp_path / name}" for name in ("schema", "admin", "writer", "keeper")
            ]
            for _ in range(2):
                assert migrate.main([*told, "--create-logins"]) == 0
            assert retain.main([f"--keeper={tmp_path / 'keeper'}"]) == 0
            with psycopg.connect(dsns["writer"], autocommit=True) as writer:
                assert writer.execute("SELECT zt_audit.last_recorded(1)").fetchone() == (0,)
                with pytest.raises(errors.InsufficientPrivilege):
                    writer.execute("DELETE FROM zt_audit.outcome")
            with pytest.raises(psycopg.OperationalError, match="password"):
                psycopg.connect(make_conninfo(dsns["writer"], password="another"))
