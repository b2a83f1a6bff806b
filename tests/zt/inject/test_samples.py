"""Pods of every kind, each as it was reviewed; valid, and with a sidecar that Envoy accepts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.oracles.envoy_static import WithBundle, static_bootstrap, validate, write_certificate
from tests.oracles.kubelet import arguments
from tests.strategies import TODAY
from tests.zt.inject.samples import EAST, RESOLVED, SAMPLES, injected, own_container, sample
from zt.check import check
from zt.compile.envoy import compile_envoy

# The oldest version with native sidecars that need no feature gate and all else in use; a new one.
VERSIONS = ("1.30", "1.35")
UNTOUCHED = ("without-needs",)


@pytest.mark.parametrize("name", SAMPLES)
def test_a_pod_becomes_what_was_reviewed(name: str, golden: Callable[[str, str], None]) -> None:
    namespace, pod = sample(name)
    text = yaml.safe_dump(injected(namespace, pod), sort_keys=False, width=10_000)
    assert "&id" not in text
    golden(f"pods/{name}.yaml", text)


@pytest.mark.parametrize("name", UNTOUCHED)
def test_a_pod_that_needs_nothing_is_left_as_it_is(name: str) -> None:
    namespace, pod = sample(name)
    assert injected(namespace, pod) == pod


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", SAMPLES)
def test_a_pod_is_valid(name: str, version: str) -> None:
    kubernetes_validate.validate(_complete(injected(*sample(name))), version, strict=True)


def _complete(pod: dict[str, Any]) -> dict[str, Any]:
    """Without what an API server writes as null."""
    metadata = {key: value for key, value in pod["metadata"].items() if value is not None}
    return {**pod, "metadata": metadata}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("envoy")
    write_certificate(path)
    return path


@pytest.mark.parametrize("name", [name for name in SAMPLES if name not in UNTOUCHED])
def test_a_real_envoy_accepts_the_pods_configuration(name: str, folder: Path) -> None:
    namespace, pod = sample(name)
    found = EAST.of(namespace, pod["spec"]["serviceAccountName"])
    assert found
    files = {
        file.path.removeprefix(f"envoy/{found.service}/"): file.text()
        for file in compile_envoy(RESOLVED, "east", WithBundle(RESOLVED, folder))
        if file.path.startswith(f"envoy/{found.service}/")
    }
    own = own_container(injected(namespace, pod), "zt-envoy")
    told = arguments(own, {"status.podIP": "10.0.0.7"})
    answer = validate(static_bootstrap(files, folder), folder / "b.json", *over(told))
    assert answer.returncode == 0, answer.stderr


def over(told: list[str]) -> list[str]:
    """What is merged over the bootstrap."""
    if "--config-yaml" not in told:
        return []
    at = told.index("--config-yaml")
    return told[at : at + 2]


def test_the_policy_of_the_samples_has_no_errors() -> None:
    found = [str(finding) for finding in check(RESOLVED.policy, TODAY)]
    assert len(found) == 1
    assert "idle-service" in found[0]
