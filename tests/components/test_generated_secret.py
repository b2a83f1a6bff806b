"""The Job that makes Secrets: what it is told, and that its rights end at their names."""

from __future__ import annotations

import json

import kubernetes_validate
import pulumi
import pytest

from components.generated_secret import (
    GeneratedSecrets,
    Recipe,
    job_manifest,
    rights_manifests,
)
from engine.kubernetes.recipes import recipes
from tests.components.registered import run

DATABASE = Recipe(namespace="hanzo", secret="db", passwords=("app",), texts={"dsn": "user:{app}"})
OTHER = Recipe(namespace="hanzo", secret="cache", passwords=("word",))
SERVER = Recipe(namespace="spire-system", secret="tls", passwords=(), certificate=("db", "db.x"))
ALL = [DATABASE, OTHER, SERVER]


@pytest.mark.parametrize("version", ["1.30", "1.35"])
def test_the_objects_are_valid(version: str) -> None:
    for manifest in (*rights_manifests("test", ALL), job_manifest("test", ALL, "image")):
        kubernetes_validate.validate(manifest, version, strict=True)


def test_the_program_reads_what_the_job_is_told() -> None:
    (container,) = job_manifest("test", ALL, "image")["spec"]["template"]["spec"]["containers"]
    told = recipes(container["args"][-1])
    assert [(item.namespace, item.secret) for item in told] == [
        ("hanzo", "db"),
        ("hanzo", "cache"),
        ("spire-system", "tls"),
    ]
    assert told[0].texts == {"dsn": "user:{app}"}
    assert told[2].certificate == ("db", "db.x")


def test_rights_are_by_name_in_each_namespace() -> None:
    account, *rights = rights_manifests("test", ALL)
    assert account["metadata"]["namespace"] == "spire-system"
    roles = {item["metadata"]["namespace"]: item for item in rights if item["kind"] == "Role"}
    assert {name: role["rules"][0]["resourceNames"] for name, role in roles.items()} == {
        "hanzo": ["db", "cache"],
        "spire-system": ["tls"],
    }
    for role in roles.values():
        assert all(rule["resourceNames"] for rule in role["rules"])


def test_other_recipes_make_another_job() -> None:
    names = {job_manifest("test", found, "image")["metadata"]["name"] for found in (ALL, ALL[:1])}
    assert len(names) == 2


def test_what_is_registered() -> None:
    def program() -> None:
        GeneratedSecrets("test", ALL, "image", pulumi.ResourceOptions())

    seen = run(program, "a-stack", {})
    (component,) = seen.of("hanzo-zt:components:GeneratedSecrets")
    (job,) = seen.of("kubernetes:batch/v1:Job")
    children = seen.children(component)
    assert len(children) == len(seen.resources) - 1 == 6
    # It has its rights before it runs.
    assert {item.urn for item in children if item is not job} <= set(job.dependencies)
    assert seen.outputs[component.urn] == {
        "secrets": ["hanzo/db", "hanzo/cache", "spire-system/tls"]
    }
    assert "user:{app}" in json.dumps(job.inputs)
