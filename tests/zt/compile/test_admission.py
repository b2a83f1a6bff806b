"""Admission refuses pods that pass for another service, and in phase 4 those that are nobody."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.oracles.admission import denials, operations, request
from tests.strategies import NAMESPACES, SERVICES, TODAY, documents, policies
from zt.compile.admission import compile_admission
from zt.effective import effective
from zt.load import assemble, load_policy
from zt.model import Policy, Service
from zt.wellknown import MESH_NAMESPACE

REAL = load_policy(Path(__file__).parents[3] / "policies")
LABELS, DECLARED = "zt-identity-labels", "zt-declared-only"


def compiled(policy: Policy, cluster: str) -> dict[str, Any]:
    files = compile_admission(effective(policy, TODAY), cluster)
    return {
        file.path.removeprefix("admission/")[: -len(".yaml")]: file.manifest() for file in files
    }


def at_step(name: str) -> Policy:
    assert REAL.rollout
    return replace(REAL, rollout=replace(REAL.rollout, current=name))


def pod(
    labels: dict[str, str] | None, account: str | None = None, namespace: str = "hanzo"
) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": "x", "namespace": namespace}
    if labels is not None:
        metadata["labels"] = labels
    return {
        "metadata": metadata,
        "spec": {"containers": [], **({"serviceAccountName": account} if account else {})},
    }


def refused(name: str, asked: dict[str, Any], policy: Policy = REAL) -> list[str]:
    objects = compiled(policy, "hanzo-k8s")
    return denials(objects[name], objects["zt-services"], asked)


# --- Identity labels ------------------------------------------------------------------------------


def test_a_pod_with_the_labels_of_its_own_service_is_admitted() -> None:
    assert refused(LABELS, request(pod({"app": "postgres", "tier": "x"}, "postgres"))) == []


def test_a_pod_that_claims_another_services_label_is_told_what_to_do() -> None:
    (message,) = refused(LABELS, request(pod({"app": "postgres"}, "chat")))
    assert message == (
        "the labels app=postgres are those of service account hanzo.postgres, but the pod runs as "
        "hanzo.chat: change its labels, or let it run as that service account"
    )


def test_a_pod_without_a_service_account_runs_as_default() -> None:
    (message,) = refused(LABELS, request(pod({"app": "redis"})))
    assert "runs as hanzo.default" in message


@pytest.mark.parametrize("labels", [None, {}, {"app": "somebody"}])
def test_a_pod_with_nobodys_labels_is_admitted(labels: dict[str, str] | None) -> None:
    assert refused(LABELS, request(pod(labels, "chat"))) == []


def test_labels_mean_nothing_in_another_namespace() -> None:
    assert refused(LABELS, request(pod({"app": "postgres"}, "chat", "monitoring"))) == []


def test_labels_of_the_mesh_itself_are_reserved() -> None:
    (message,) = refused(LABELS, request(pod({"zt.hanzo.ai/phase": "observe"}, "chat")))
    assert message == (
        "label zt.hanzo.ai/phase is reserved: labels that start with zt.hanzo.ai/ are set by the "
        "mesh alone, so remove it"
    )


def test_labels_that_change_are_looked_at_again() -> None:
    before, after = pod({"app": "chat"}, "chat"), pod({"app": "postgres"}, "chat")
    assert refused(LABELS, request(after, operation="UPDATE", old=before))
    assert refused(LABELS, request(after, operation="UPDATE", old=pod(None, "chat")))


def test_an_update_that_leaves_the_labels_is_admitted() -> None:
    """Or a pod that ran before the policy could not lose its finalizers, and never end."""
    found = pod({"app": "postgres"}, "chat")
    assert refused(LABELS, request(found, operation="UPDATE", old=found)) == []


def test_all_labels_of_a_selector_make_the_identity() -> None:
    services = tuple(
        replace(item, selector=(("app", "db"), ("role", item.name)))
        if item.name in ("postgres", "redis")
        else item
        for item in REAL.services
    )
    policy = replace(REAL, services=services)
    assert refused(LABELS, request(pod({"app": "db"}, "chat")), policy) == []
    assert refused(LABELS, request(pod({"app": "db", "role": "redis"}, "redis")), policy) == []
    assert refused(LABELS, request(pod({"app": "db", "role": "redis"}, "postgres")), policy)


@pytest.mark.parametrize(
    "step", ["observe", "enforce-non-critical", "enforce-critical", "full-zero-trust"]
)
def test_identity_labels_are_held_in_every_phase(step: str) -> None:
    assert LABELS in compiled(at_step(step), "hanzo-k8s")


# --- Declared only --------------------------------------------------------------------------------


def test_a_declared_service_account_is_admitted() -> None:
    assert refused(DECLARED, request(pod({}, "prometheus", "monitoring"))) == []


@pytest.mark.parametrize(
    ("account", "namespace", "named"),
    [
        ("nobody", "hanzo", "nobody"),
        ("prometheus", "hanzo", "prometheus"),
        (None, "hanzo", "default"),
    ],
)
def test_an_undeclared_service_account_is_told_what_to_do(
    account: str | None, namespace: str, named: str
) -> None:
    (message,) = refused(DECLARED, request(pod({}, account, namespace)))
    assert message == (
        f"no Service declares service account {named} in namespace {namespace}: declare it under "
        "policies/, or let the pod run as a declared one"
    )


def test_pods_that_run_already_are_left_alone() -> None:
    assert operations(compiled(REAL, "hanzo-k8s")[DECLARED]) == ["CREATE"]


@pytest.mark.parametrize("step", ["observe", "enforce-non-critical", "enforce-critical"])
def test_before_phase_4_undeclared_pods_are_admitted(step: str) -> None:
    assert DECLARED not in compiled(at_step(step), "hanzo-k8s")


# --- All of it ------------------------------------------------------------------------------------


@settings(max_examples=200)
@given(
    policies(),
    st.sampled_from(NAMESPACES),
    st.sampled_from((*SERVICES, "default", "api-account", "wg-gateway")),
    st.dictionaries(
        st.sampled_from(("app", "tier", "zt.hanzo.ai/x")),
        st.sampled_from((*SERVICES, "backend", "wg-gateway")),
    ),
)
def test_pods_are_refused_for_just_these_reasons(
    policy: Policy, namespace: str, account: str, labels: dict[str, str]
) -> None:
    cluster = policy.mesh.clusters[0].name
    objects = compiled(policy, cluster)
    here = [
        item for item in policy.services if (item.cluster, item.namespace) == (cluster, namespace)
    ]
    asked = request(pod(labels, account, namespace))
    wrong = claims(here, account, labels) + ("zt.hanzo.ai/x" in labels)
    assert len(denials(objects[LABELS], objects["zt-services"], asked)) == wrong
    if DECLARED in objects:
        declared = account in {item.account for item in here}
        assert bool(denials(objects[DECLARED], objects["zt-services"], asked)) is not declared


def claims(services: list[Service], account: str, labels: dict[str, str]) -> bool:
    return any(
        item.account != account and item.labels.items() <= labels.items() for item in services
    )


@given(policies(), st.randoms())
def test_documents_in_any_order_compile_to_the_same_bytes(
    policy: Policy, order: random.Random
) -> None:
    shuffled = list(documents(policy))
    order.shuffle(shuffled)
    for cluster in policy.mesh.clusters:
        one, other = (
            [(file.path, file.text()) for file in compile_admission(resolved, cluster.name)]
            for resolved in (effective(policy, TODAY), effective(assemble(shuffled), TODAY))
        )
        assert one == other


@pytest.mark.parametrize("name", [LABELS, DECLARED])
def test_a_policy_holds_in_all_namespaces_of_the_mesh_and_fails_closed(name: str) -> None:
    objects = compiled(REAL, "hanzo-k8s")
    spec, binding = objects[name]["spec"], objects[f"{name}-binding"]["spec"]
    assert spec["failurePolicy"] == "Fail"
    assert spec["matchConstraints"]["namespaceSelector"] == {"matchLabels": MESH_NAMESPACE}
    assert "excludeResourceRules" not in spec["matchConstraints"]
    assert binding == {
        "policyName": name,
        "validationActions": ["Deny"],
        "paramRef": {
            "name": objects["zt-services"]["metadata"]["name"],
            "namespace": objects["zt-services"]["metadata"]["namespace"],
            "parameterNotFoundAction": "Deny",
        },
    }


def test_without_any_service_nobody_is_declared() -> None:
    policy = replace(REAL, services=())
    assert refused(DECLARED, request(pod({}, "chat")), policy)
    assert refused(LABELS, request(pod({"app": "chat"}, "chat")), policy) == []


def test_expressions_do_not_grow_with_the_services() -> None:
    """What grows is the ConfigMap; the API server bounds an expression's length and its cost."""
    few = replace(REAL, services=REAL.services[:1])
    assert compiled(few, "hanzo-k8s")[LABELS] == compiled(REAL, "hanzo-k8s")[LABELS]
