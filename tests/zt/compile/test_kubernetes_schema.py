"""Every compiled Kubernetes object is one, by the API server's own schema (offline)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from hypothesis import given, settings

from tests.strategies import TODAY, policies
from zt.compile import compile_policy
from zt.load import load_policy
from zt.model import Policy

REAL = load_policy(Path(__file__).parents[3] / "policies")
# The oldest version that has all kinds in use (ValidatingAdmissionPolicy v1), and a new one.
VERSIONS = ("1.30", "1.35")
# Custom resources, whose schema is their own: spire-controller-manager's.
CUSTOM = {"spire.spiffe.io/v1alpha1"}


def objects(policy: Policy, cluster: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """What is compiled for Kubernetes, read again from what is written."""
    for file in compile_policy(policy, cluster, TODAY).files:
        if file.path.endswith(".yaml"):
            content = yaml.load(file.text(), Loader=yaml.CSafeLoader)
            if "kind" in content and content.get("apiVersion") not in CUSTOM:
                yield file.path, content


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("cluster", ["hanzo-k8s", "lux-k8s"])
def test_the_real_policy_compiles_to_valid_objects(cluster: str, version: str) -> None:
    kinds = set()
    for _, found in objects(REAL, cluster):
        kubernetes_validate.validate(found, version, strict=True)
        kinds.add(found["kind"])
    assert kinds >= {
        "ConfigMap",
        "NetworkPolicy",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
    }


@settings(max_examples=10)
@given(policies())
def test_random_policies_compile_to_valid_objects(policy: Policy) -> None:
    for cluster in policy.mesh.clusters:
        for _, found in objects(policy, cluster.name):
            kubernetes_validate.validate(found, VERSIONS[-1], strict=True)


def test_an_unknown_key_is_refused() -> None:
    _, found = next(objects(REAL, "hanzo-k8s"))
    found["spec" if "spec" in found else "metadata"]["matchLabel"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(found, VERSIONS[-1], strict=True)
