"""A ConfigMap for each sidecar, and a webhook that asks about all pods but the mesh's own."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from functools import cache, partial
from pathlib import Path
from typing import Any

import cel
import pulumi
import pytest
import yaml
from kubernetes_validate import validate

from components import sidecars
from components.sidecars import Sidecars, configuration_manifest, refusals, webhook_manifest
from tests.components.registered import Run, run
from tests.components.stack_settings import lab_settings
from zt.bundle import Bundle, CompiledFile
from zt.compile import compile_policy
from zt.load import load_policy

ROOT = Path(__file__).parents[2]
CLUSTERS = ["hanzo-k8s", "lux-k8s"]
MIB = 1 << 20
Json = dict[str, Any]


@cache
def bundle_of(cluster: str) -> Bundle:
    return compile_policy(load_policy(ROOT / "policies"), cluster, date(2026, 11, 24))


def program(cluster: str, bundle: Bundle) -> None:
    before = pulumi.CustomResource("test:index:Before", "before", {})
    Sidecars("sidecars", bundle, lab_settings(cluster), pulumi.ResourceOptions(), after=[before])


@cache
def seen(cluster: str) -> Run:
    return run(partial(program, cluster, bundle_of(cluster)), cluster, {})


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_each_service_has_one_configuration_with_all_that_was_compiled(cluster: str) -> None:
    bundle = bundle_of(cluster)
    found = {item.inputs["metadata"]["name"]: item for item in seen(cluster).of(CONFIG_MAP)}
    compiled: dict[str, dict[str, str]] = {}
    for file in bundle.under("envoy"):
        _, owner, name = file.path.split("/")
        compiled.setdefault(f"zt-envoy-{owner}", {})[name] = file.text()
    assert {name: item.inputs["data"] for name, item in found.items()} == compiled
    assert bundle.facts is not None
    for service in bundle.facts.services:
        item = found[f"zt-envoy-{service.name}"]
        assert item.inputs["metadata"]["namespace"] == service.namespace
        # In place: no ConfigMap is made anew because its content is another.
        assert "immutable" not in item.inputs


CONFIG_MAP = "kubernetes:core/v1:ConfigMap"
WEBHOOK = "kubernetes:admissionregistration.k8s.io/v1:MutatingWebhookConfiguration"


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_the_webhook_alone_waits_for_the_evaluator(cluster: str) -> None:
    (webhook,) = seen(cluster).of(WEBHOOK)
    assert [urn.split("::")[-1] for urn in webhook.dependencies] == ["before"]
    assert not any(item.dependencies for item in seen(cluster).of(CONFIG_MAP))


@pytest.mark.parametrize("cluster", CLUSTERS)
@pytest.mark.parametrize("version", ["1.30", "1.35"])
def test_objects_are_valid(cluster: str, version: str) -> None:
    resources = [item for item in seen(cluster).resources if item.is_kubernetes]
    assert len(resources) > 2
    for resource in resources:
        validate(resource.inputs, version, strict=True)


def webhook_of(cluster: str) -> Json:
    facts = bundle_of(cluster).facts
    assert facts is not None
    assert facts.evaluator is not None
    manifest = webhook_manifest(facts, facts.evaluator)
    (webhook,) = manifest["webhooks"]
    assert isinstance(webhook, dict)
    return webhook


def test_the_webhook_fails_closed_for_new_pods_of_namespaces_that_say_so() -> None:
    webhook = webhook_of("hanzo-k8s")
    assert webhook["failurePolicy"] == "Fail"
    assert webhook["namespaceSelector"] == {"matchLabels": {"zt.hanzo.ai/injection": "enabled"}}
    (rule,) = webhook["rules"]
    assert (rule["operations"], rule["resources"]) == (["CREATE"], ["pods"])
    assert webhook["sideEffects"] == "None"
    assert webhook["clientConfig"] == {
        "service": {
            "name": "zt-policy-engine",
            "namespace": "hanzo",
            "path": "/inject",
            "port": 8057,
        }
    }


@pytest.mark.parametrize(
    ("namespace", "account", "asked"),
    [
        ("hanzo", "iam", True),
        ("hanzo", None, True),
        ("hanzo", "zt-policy-engine", False),
        ("hanzo", "wg-gateway", False),
        ("monitoring", "zt-policy-engine", True),
        ("hanzo", "zt-audit-db", True),
    ],
)
def test_no_pod_of_the_meshs_own_waits_for_the_webhook(
    namespace: str,
    account: str | None,
    asked: bool,  # noqa: FBT001
) -> None:
    spec: Json = {"containers": []} | ({"serviceAccountName": account} if account else {})
    known = {"request": {"namespace": namespace}, "object": {"spec": spec}}
    conditions = webhook_of("hanzo-k8s")["matchConditions"]
    held = [cel.evaluate(condition["expression"], known) for condition in conditions]
    assert len(held) == 2
    assert all(held) is asked


# --- Size -----------------------------------------------------------------------------------------


def grown(bundle: Bundle, items: int) -> Bundle:
    """The same, with a file of so many items for postgres."""
    content = {"resources": [{"socket": {"address": {"port": n}}} for n in range(items)]}
    return replace(bundle, files=(*bundle.files, CompiledFile("envoy/postgres/more.yaml", content)))


def test_what_is_large_is_written_without_what_is_for_people() -> None:
    bundle = grown(bundle_of("hanzo-k8s"), 24_000)
    assert bundle.facts is not None
    service = bundle.facts.service("postgres")
    assert service is not None
    assert len(bundle.file("envoy/postgres/more.yaml").text()) > MIB
    data = configuration_manifest(bundle, service)["data"]
    assert sum(len(text) for text in data.values()) < MIB
    assert list(refusals(bundle)) == []
    for file in bundle.under("envoy/postgres"):
        name = file.path.rpartition("/")[2]
        assert yaml.load(data[name], yaml.CSafeLoader) == file.manifest()


def test_what_is_too_large_is_refused_before_anything_is_made() -> None:
    assert list(refusals(bundle_of("hanzo-k8s"))) == []
    (sentence,) = refusals(grown(bundle_of("hanzo-k8s"), 60_000))
    assert sentence.startswith("the sidecar of postgres has ")
    assert "divide it" in sentence
    assert sidecars.MOST_BYTES == MIB
