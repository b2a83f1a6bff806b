"""What SPIRE's service accounts may do, by the rules of RBAC: what they need, and no more."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from components.spire import rbac
from tests.components.spire.asks import FORBIDDEN, NEEDED, SERVER, Ask
from tests.components.spire.cases import facts_of
from tests.strategies import TODAY, policies
from zt.compile import compile_policy
from zt.model import Policy

Json = dict[str, Any]


def allowed(manifests: list[Json], ask: Ask) -> bool:
    roles = {
        (item["kind"], item["metadata"].get("namespace", ""), item["metadata"]["name"]): item
        for item in manifests
    }
    for binding in manifests:
        if not binding["kind"].endswith("Binding"):
            continue
        namespace = binding["metadata"].get("namespace", "")
        reference = binding["roleRef"]
        role_namespace = namespace if reference["kind"] == "Role" else ""
        role = roles[(reference["kind"], role_namespace, reference["name"])]
        bound = {(item["namespace"], item["name"]) for item in binding["subjects"]}
        if ("spire-system", ask.account) not in bound or namespace not in {"", ask.namespace}:
            continue
        if any(grants(rule, ask) for rule in role["rules"]):
            return True
    return False


def grants(rule: Json, ask: Ask) -> bool:
    return (
        ask.group in rule["apiGroups"]
        and ask.resource in rule["resources"]
        and ask.verb in rule["verbs"]
        and ("resourceNames" not in rule or ask.name in rule["resourceNames"])
    )


MANIFESTS = rbac.manifests(facts_of("hanzo-k8s"))


@pytest.mark.parametrize("ask", NEEDED, ids=str)
def test_spire_may_do_what_it_needs(ask: Ask) -> None:
    assert allowed(MANIFESTS, ask)


@pytest.mark.parametrize("ask", FORBIDDEN, ids=str)
def test_spire_may_not(ask: Ask) -> None:
    assert not allowed(MANIFESTS, ask)


def test_no_rule_says_all() -> None:
    rules = [rule for item in MANIFESTS for rule in item.get("rules", [])]
    named = [text for rule in rules for texts in rule.values() for text in texts]
    assert rules
    assert not [text for text in named if "*" in text]


@given(policies())
def test_pods_are_seen_where_services_are_declared_and_nowhere_else(policy: Policy) -> None:
    for cluster in policy.mesh.clusters:
        facts = compile_policy(policy, cluster.name, TODAY).facts
        assert facts is not None
        manifests = rbac.manifests(facts)
        everywhere = {service.namespace for service in policy.services} | {"spire-system", ""}
        seen = {
            namespace
            for namespace in everywhere
            if allowed(manifests, Ask(SERVER, "list", "pods", namespace=namespace))
        }
        assert seen == set(facts.namespaces or ("spire-system",))
