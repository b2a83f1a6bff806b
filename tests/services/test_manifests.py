"""The teams' objects: as Kubernetes has them, for every service, and plain."""

from datetime import date
from pathlib import Path
from typing import Any

import pytest
from kubernetes_validate import validate

from lab.services import program
from lab.services.manifests import (
    CONTAINER,
    IMAGE,
    PEERS,
    namespaces,
    team_services,
    waiting_job,
    workloads,
)
from lab.services.policies import lay
from lab.stack.folder import ROOT
from zt.effective import effective
from zt.inject import Injected, inject, injection_of
from zt.inject.needs import Images
from zt.load import load_policy
from zt.model import Policy

_CLUSTERS = ("hanzo-k8s", "lux-k8s")


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    folder: Path = tmp_path_factory.mktemp("laid") / "policies"
    lay(ROOT / "policies", folder, short=False)
    return load_policy(folder)


def _all(policy: Policy) -> list[dict[str, Any]]:
    return [m for c in _CLUSTERS for m in (*namespaces(policy, c), *workloads(policy, c))]


def _templates(policy: Policy) -> dict[str, dict[str, Any]]:
    return {
        manifest["metadata"]["name"]: manifest["spec"]["template"]
        for manifest in _all(policy)
        if manifest["kind"] in ("Deployment", "StatefulSet", "Job")
    }


def test_they_are_what_kubernetes_takes(policy: Policy) -> None:
    for manifest in _all(policy):
        validate(manifest, "1.33", strict=True)


def test_every_service_but_the_stacks_own_is_deployed(policy: Policy) -> None:
    kinds = {
        manifest["metadata"]["name"]: manifest["kind"]
        for manifest in _all(policy)
        if "template" in manifest.get("spec", {})
    }
    assert {name for name, kind in kinds.items() if kind == "StatefulSet"} == {
        "postgres",
        "redis",
        "minio",
    }
    assert [name for name, kind in kinds.items() if kind == "Job"] == ["migrate"]
    deployments = {name for name, kind in kinds.items() if kind == "Deployment"}
    assert deployments == {
        *("chat", "cloud", "console", "flow", "gateway", "iam", "ledger", "search"),
        *("prometheus", "validator"),
    }
    assert {service.name for c in _CLUSTERS for service in team_services(policy, c)} == set(kinds)


def test_they_know_nothing_of_the_mesh(policy: Policy) -> None:
    text = repr(_all(policy)).replace(IMAGE, "")
    for word in ("zt.hanzo.ai", "envoy", "spiffe", "hostAliases", "15100"):
        assert word not in text


def test_each_declared_port_is_listened_on_and_has_a_service(policy: Policy) -> None:
    templates = _templates(policy)
    services = {m["metadata"]["name"]: m["spec"] for m in _all(policy) if m["kind"] == "Service"}
    for cluster in _CLUSTERS:
        for service in team_services(policy, cluster):
            if not service.ports:
                continue
            (container,) = templates[service.name]["spec"]["containers"]
            declared = [port.port for port in service.ports]
            assert [port["port"] for port in services[service.name]["ports"]] == declared
            listened = [port["containerPort"] for port in container["ports"]]
            assert set(listened) - {PEERS.port} == set(declared)
            for number, protocol in zip(
                listened, container["command"][-len(listened) :], strict=True
            ):
                assert protocol.startswith(f"{number}:")
            assert (
                services[service.name]["selector"] == templates[service.name]["metadata"]["labels"]
            )


def test_databases_are_headless_and_have_peers(policy: Policy) -> None:
    services = {m["metadata"]["name"]: m["spec"] for m in _all(policy) if m["kind"] == "Service"}
    headless = {name for name, spec in services.items() if spec.get("clusterIP") == "None"}
    assert headless == {"postgres", "redis", "minio"}
    sets = [m["spec"] for m in _all(policy) if m["kind"] == "StatefulSet"]
    assert {spec["serviceName"] for spec in sets} == headless
    assert {spec["replicas"] for spec in sets} == {2}


def test_injection_takes_every_pod(policy: Policy) -> None:
    resolved = effective(policy, date(2026, 1, 1))
    images = Images("envoy", "redirect")
    for cluster in _CLUSTERS:
        injection = injection_of(resolved, cluster)
        for service in team_services(policy, cluster):
            template = _templates(policy)[service.name]
            pod = {"apiVersion": "v1", "kind": "Pod", **template}
            assert isinstance(inject(pod, service.namespace, injection, images), Injected)


def test_a_job_may_wait_to_be_called_from(policy: Policy) -> None:
    (service,) = [item for item in policy.services if item.name == "migrate"]
    job = waiting_job(service, "migrate-verify")
    validate(job, "1.33", strict=True)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["name"] == CONTAINER
    assert container["command"] == program.application("migrate", ())
    assert job["spec"]["template"]["spec"]["serviceAccountName"] == "migrate"
