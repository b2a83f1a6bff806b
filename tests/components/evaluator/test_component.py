"""What the component registers, seen by a monitor that needs no engine."""

from __future__ import annotations

import pulumi

from components.evaluator import Evaluator
from tests.components.registered import Run, run
from tests.components.spire.cases import LAB, bundle_of


def registered() -> Run:
    def program() -> None:
        Evaluator(
            "evaluator",
            bundle_of("hanzo-k8s"),
            LAB,
            pulumi.ResourceOptions(),
            policies={"mesh.yaml": "a"},
        )

    return run(program, "hanzo-k8s", {})


def test_all_that_is_registered() -> None:
    seen = registered()
    (component,) = seen.of("hanzo-zt:components:Evaluator")
    kinds = {(item.type.split(":")[-1], item.name) for item in seen.children(component)}
    own = "evaluator:hanzo/zt-policy-engine"
    assert kinds == {
        ("ServiceAccount", own),
        ("ConfigMap", "evaluator:hanzo/zt-policies"),
        ("ClusterRole", "evaluator:zt-policy-engine"),
        ("ClusterRoleBinding", "evaluator:zt-policy-engine"),
        ("Role", own),
        ("RoleBinding", own),
        ("Service", own),
        ("PodDisruptionBudget", own),
        ("Deployment", own),
    }
    assert len(seen.resources) == len(kinds) + 1
    assert seen.outputs[component.urn] == {"api": "zt-policy-engine.hanzo.svc:8054"}


def test_pods_come_after_what_they_read_and_may() -> None:
    seen = registered()
    (deployment,) = seen.of("kubernetes:apps/v1:Deployment")
    before = {
        item.type.split(":")[-1] for item in seen.resources if item.urn in deployment.dependencies
    }
    assert before >= {"ServiceAccount", "ConfigMap", "ClusterRoleBinding", "RoleBinding"}
