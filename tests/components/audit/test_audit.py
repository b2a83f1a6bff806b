"""The audit trail of a stack: where its database is, and what works on it."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import kubernetes_validate
import pulumi
import pulumi_digitalocean as digitalocean
import pytest

from components.audit import Audit, refusals
from components.audit.access import access_of
from components.audit.programs import migration_manifest
from components.evaluator import evaluator_of
from components.settings import (
    ClusterDatabase,
    ExistingTrail,
    ManagedDatabase,
    StackSettings,
)
from tests.components.registered import Registered, Run, run
from tests.components.sdk_types import problems
from tests.components.spire.cases import LAB, PLAIN, POLICY, bundle_of
from tests.strategies import TODAY
from zt.bundle import Bundle
from zt.compile import compile_policy

Json = dict[str, Any]

IN_CLUSTER = replace(LAB, audit=ClusterDatabase(storage="100Gi"))
EXISTING = replace(PLAIN, audit=ExistingTrail())
WITH_LOGINS = replace(PLAIN, audit=ExistingTrail(admin_key="ADMIN", retention_key="KEEPER"))
MANAGED = replace(
    LAB,
    audit=ManagedDatabase(
        size="db-s-2vcpu-4gb", nodes=2, region="sfo3", cluster_id="a-cluster", network="a-network"
    ),
)
STACKS = {
    "in cluster": IN_CLUSTER,
    "existing": EXISTING,
    "with logins": WITH_LOGINS,
    "managed": MANAGED,
}


def registered(settings: StackSettings) -> Run:
    def program() -> None:
        bundle = bundle_of(settings.cluster)
        Audit("audit", bundle, settings, pulumi.ResourceOptions())

    return run(program, settings.cluster, {})


def names(seen: Run) -> set[tuple[str, str]]:
    return {(item.type.split(":")[-1], item.name) for item in seen.resources}


def only(seen: Run, kind: str, name: str = "") -> Registered:
    (found,) = (
        item for item in seen.resources if item.type.split(":")[-1] == kind and name in item.name
    )
    return found


def pod(job: Json) -> Json:
    """The pod of a Job or a CronJob."""
    spec = job["spec"]
    found: Json = (spec.get("jobTemplate") or {"spec": spec})["spec"]["template"]["spec"]
    return found


def sources(job: Json) -> list[Json]:
    """The Secrets of its DSNs."""
    found: list[Json] = pod(job)["volumes"][0]["projected"]["sources"]
    return found


@pytest.mark.parametrize("version", ["1.30", "1.35"])
@pytest.mark.parametrize("stack", sorted(STACKS))
def test_all_objects_are_valid(stack: str, version: str) -> None:
    for item in registered(STACKS[stack]).resources:
        if item.is_kubernetes:
            kubernetes_validate.validate(item.inputs, version, strict=True)


@pytest.mark.parametrize("stack", sorted(STACKS))
def test_children_are_the_components(stack: str) -> None:
    seen = registered(STACKS[stack])
    (audit,) = seen.of("hanzo-zt:components:Audit")
    inner = {item.urn for item in seen.of("hanzo-zt:components:GeneratedSecrets")}
    assert {item.parent for item in seen.resources if item is not audit} <= {audit.urn, *inner}
    assert set(seen.outputs[audit.urn]) == {"secret"}


def test_in_the_cluster() -> None:
    seen = registered(IN_CLUSTER)
    job = only(seen, "Job", "zt-audit-migration")
    secrets = only(seen, "Job", "zt-secrets-")
    assert names(seen) == {
        ("Audit", "audit"),
        ("GeneratedSecrets", "audit-passwords"),
        ("ServiceAccount", "audit-passwords:spire-system/zt-secrets-audit-passwords"),
        ("Role", "audit-passwords:hanzo/zt-secrets-audit-passwords"),
        ("RoleBinding", "audit-passwords:hanzo/zt-secrets-audit-passwords"),
        ("Job", secrets.name),
        ("ServiceAccount", "audit:hanzo/zt-audit-db"),
        ("Service", "audit:hanzo/zt-audit-db"),
        ("StatefulSet", "audit:hanzo/zt-audit-db"),
        ("ConfigMap", "audit:hanzo/zt-audit-schema"),
        ("Job", job.name),
        ("CronJob", "audit:hanzo/zt-audit-retention"),
    }


def test_no_secret_passes_through_the_state_where_the_cluster_makes_it() -> None:
    for settings in (IN_CLUSTER, EXISTING, WITH_LOGINS):
        assert not any(item.type.endswith(":Secret") for item in registered(settings).resources)


def test_an_existing_database_is_left_to_its_owner() -> None:
    assert names(registered(EXISTING)) == {("Audit", "audit")}
    seen = registered(WITH_LOGINS)
    job = only(seen, "Job").inputs
    assert names(seen) >= {("CronJob", "audit:lux/zt-audit-retention")}
    (container,) = pod(job)["containers"]
    assert "--create-logins" not in container["command"]
    references = [item["secret"] for item in sources(job)]
    assert {(item["name"], item["items"][0]["key"]) for item in references} == {
        ("zt-secrets", "AUDIT_DATABASE_URL"),
        ("zt-secrets", "ADMIN"),
        ("zt-secrets", "KEEPER"),
    }


def test_each_program_sees_the_logins_that_it_needs() -> None:
    seen = registered(IN_CLUSTER)
    found = {
        kind: {
            item["secret"]["items"][0]["path"]
            for item in pod(only(seen, kind, "zt-audit").inputs)["volumes"][0]["projected"][
                "sources"
            ]
        }
        for kind in ("Job", "CronJob")
    }
    assert found == {"Job": {"admin", "writer", "keeper"}, "CronJob": {"keeper"}}


def test_programs_run_as_the_evaluators_service_without_its_rights() -> None:
    seen = registered(IN_CLUSTER)
    service = evaluator_of(bundle_of("hanzo-k8s"))
    for kind in ("Job", "CronJob"):
        found = pod(only(seen, kind, "zt-audit").inputs)
        assert found["serviceAccountName"] == service.account
        assert found["automountServiceAccountToken"] is False
        assert found["initContainers"][0]["name"] == "zt-envoy"
    managed = registered(MANAGED)
    assert "initContainers" not in pod(only(managed, "Job", "zt-audit").inputs)


def test_the_database_has_its_sidecar_and_listens_to_it_alone() -> None:
    found = only(registered(IN_CLUSTER), "StatefulSet").inputs["spec"]["template"]["spec"]
    assert [item["name"] for item in found["initContainers"]] == [
        "zt-envoy",
        "zt-redirect",
        "prepare",
    ]
    (server,) = found["containers"]
    assert "listen_addresses=127.0.0.1" in server["command"]


def test_dsns_that_are_made_in_the_cluster_name_their_passwords() -> None:
    job = only(registered(IN_CLUSTER), "Job", "zt-secrets-").inputs
    recipes = json.loads(pod(job)["containers"][0]["args"][-1])
    users = set()
    for recipe in recipes:
        (word,) = recipe["passwords"]
        (text,) = recipe["texts"].values()
        url = urlsplit(text)
        assert url.password == f"{{{word}}}"
        assert (url.hostname, url.port, url.path) == ("zt-audit-db.hanzo.svc", 5432, "/zt_audit")
        users.add((recipe["secret"], url.username))
    assert users == {
        ("zt-secrets", "zt_engine"),
        ("zt-audit-retention", "zt_keeper"),
        ("zt-audit-admin", "postgres"),
    }


# --- Managed --------------------------------------------------------------------------------------


def test_a_managed_database_is_protected_and_behind_a_firewall() -> None:
    seen = registered(MANAGED)
    cluster = only(seen, "DatabaseCluster")
    assert cluster.protect
    assert cluster.inputs["privateNetworkUuid"] == "a-network"
    firewall = only(seen, "DatabaseFirewall")
    assert firewall.inputs["rules"] == [{"type": "k8s", "value": "a-cluster"}]
    assert cluster.urn in firewall.dependencies
    users = {item.inputs["name"] for item in seen.resources if item.type.endswith("DatabaseUser")}
    assert users == {"zt_engine", "zt_keeper"}


def test_arguments_are_of_the_sdks_types() -> None:
    found = [
        item for item in registered(MANAGED).resources if item.type.startswith("digitalocean:")
    ]
    assert len(found) == 5
    for item in found:
        arguments = getattr(digitalocean, f"{item.type.split(':')[-1]}Args")
        assert not list(problems(arguments, item.inputs))


def test_passwords_of_a_managed_database_are_secrets_and_in_secrets_alone() -> None:
    seen = registered(MANAGED)
    secrets = {
        item.inputs["metadata"]["name"]: item
        for item in seen.resources
        if item.type.endswith(":Secret")
    }
    assert secrets.keys() == {"zt-secrets", "zt-audit-admin", "zt-audit-retention"}
    for item in secrets.values():
        (key,) = item.inputs["data"]
        assert item.secrets == (f"data.{key}",)
        dsn = base64.b64decode(item.inputs["data"][key]).decode()
        url = urlsplit(dsn)
        assert (url.hostname, url.port, url.path) == ("private.db.example", 25060, "/zt_audit")
        assert url.query == "sslmode=verify-ca&sslrootcert=/etc/zt/audit/ca.crt"
        assert url.password in {"word-of-doadmin", "word-of-a-user"}
    others = [item for item in seen.resources if item not in secrets.values()]
    assert not any("word-of" in json.dumps(item.inputs) for item in others)


def test_without_the_clusters_id_nothing_is_made() -> None:
    assert isinstance(MANAGED.audit, ManagedDatabase)
    settings = replace(MANAGED, audit=replace(MANAGED.audit, cluster_id=None))
    (sentence,) = refusals(bundle_of("hanzo-k8s"), settings)
    assert "clusterId is missing" in sentence
    with pytest.raises(pulumi.RunError, match="clusterId is missing"):
        registered(settings)


# --- What changes the migration -------------------------------------------------------------------


def migration(bundle: Bundle) -> str:
    service = evaluator_of(bundle)
    job = migration_manifest(bundle, IN_CLUSTER, service, access_of(IN_CLUSTER))
    return str(job["metadata"]["name"])


def test_a_change_of_the_policy_makes_no_new_migration() -> None:
    first, *others = POLICY.access
    changed = replace(POLICY, access=(replace(first, rules=first.rules[:-1]), *others))
    assert migration(compile_policy(changed, "hanzo-k8s", TODAY)) == migration(
        bundle_of("hanzo-k8s")
    )


def test_a_change_of_the_schema_or_of_the_image_makes_a_new_one() -> None:
    bundle = bundle_of("hanzo-k8s")
    files = tuple(
        replace(file, content=file.text() + "-- more\n")
        if file.path == "audit/schema.sql"
        else file
        for file in bundle.files
    )
    other = replace(IN_CLUSTER, images=replace(IN_CLUSTER.images, evaluator="zt:2"))
    service = evaluator_of(bundle)
    by_image = migration_manifest(bundle, other, service, access_of(other))["metadata"]["name"]
    found = {migration(bundle), migration(replace(bundle, files=files)), by_image}
    assert len(found) == 3
    assert all(len(name) <= 63 for name in found)


# --- Refused --------------------------------------------------------------------------------------


def test_a_database_that_the_policy_does_not_declare_is_refused() -> None:
    settings = replace(IN_CLUSTER, cluster="lux-k8s")
    (sentence,) = refusals(bundle_of("lux-k8s"), settings)
    assert "does not declare in cluster lux-k8s" in sentence
    with pytest.raises(pulumi.RunError, match="zt-audit-db"):
        registered(settings)


def test_a_database_in_another_namespace_is_refused() -> None:
    bundle = bundle_of("hanzo-k8s")
    assert bundle.facts is not None
    assert bundle.facts.evaluator is not None
    moved = replace(bundle.facts, evaluator=replace(bundle.facts.evaluator, namespace="other"))
    (sentence,) = refusals(replace(bundle, facts=moved), IN_CLUSTER)
    assert "declare both in one" in sentence


def test_an_answer_never_waits_for_a_database_that_waits_for_the_answer() -> None:
    durable = replace(IN_CLUSTER, evaluator=replace(IN_CLUSTER.evaluator, durability="db"))
    (sentence,) = refusals(bundle_of("hanzo-k8s"), durable)
    assert "durability db can't be had" in sentence
    managed = replace(MANAGED, evaluator=durable.evaluator)
    assert refusals(bundle_of("hanzo-k8s"), managed) == ()


@pytest.mark.parametrize("stack", sorted(STACKS))
def test_what_is_right_is_not_refused(stack: str) -> None:
    settings = STACKS[stack]
    assert refusals(bundle_of(settings.cluster), settings) == ()
