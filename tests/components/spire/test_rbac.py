"""What SPIRE's service accounts may do, by the rules of RBAC: what they need, and no more."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from hypothesis import given

from components.spire import rbac
from tests.components.spire.cases import facts_of
from tests.strategies import TODAY, policies
from zt.compile import compile_policy
from zt.model import Policy

Json = dict[str, Any]

SERVER, AGENT = "spire-server", "spire-agent"
CRS = "spire.spiffe.io"


class Ask(NamedTuple):
    """One request to the API server; a namespace of "" is the whole cluster."""

    account: str
    verb: str
    resource: str
    group: str = ""
    namespace: str = ""
    name: str = ""


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


NEEDED = [
    Ask(SERVER, "create", "tokenreviews", "authentication.k8s.io"),
    Ask(SERVER, "get", "nodes", name="node-1"),
    Ask(SERVER, "watch", "nodes"),
    Ask(SERVER, "watch", "namespaces"),
    Ask(SERVER, "get", "pods", namespace="spire-system", name="spire-agent-x"),
    Ask(SERVER, "watch", "pods", namespace="hanzo"),
    Ask(SERVER, "watch", "endpoints", namespace="monitoring"),
    Ask(SERVER, "watch", "clusterspiffeids", CRS),
    Ask(SERVER, "update", "clusterspiffeids/status", CRS, name="hanzo.iam"),
    Ask(SERVER, "update", "clusterstaticentries/status", CRS, name="ci.deploy"),
    Ask(SERVER, "patch", "configmaps", namespace="hanzo", name="spire-bundle"),
    Ask(SERVER, "patch", "configmaps", namespace="spire-system", name="spire-bundle"),
    Ask(SERVER, "create", "leases", "coordination.k8s.io", "spire-system"),
    Ask(
        SERVER,
        "update",
        "leases",
        "coordination.k8s.io",
        "spire-system",
        "spire-controller-manager",
    ),
    Ask(AGENT, "get", "nodes/pods", name="node-1"),
]

FORBIDDEN = [
    Ask(SERVER, "get", "secrets", namespace="hanzo", name="zt-secrets"),
    Ask(SERVER, "get", "secrets", namespace="spire-system", name="spire-datastore"),
    Ask(SERVER, "create", "serviceaccounts/token", namespace="hanzo", name="iam"),
    Ask(SERVER, "create", "pods", namespace="spire-system"),
    Ask(SERVER, "create", "pods/exec", namespace="hanzo", name="iam-1"),
    Ask(SERVER, "list", "pods"),
    Ask(SERVER, "list", "pods", namespace="kube-system"),
    Ask(SERVER, "patch", "configmaps", namespace="hanzo", name="zt-policies"),
    Ask(SERVER, "create", "configmaps", namespace="hanzo"),
    Ask(SERVER, "patch", "configmaps", namespace="kube-system", name="spire-bundle"),
    Ask(SERVER, "create", "clusterspiffeids", CRS, name="hanzo.iam"),
    Ask(SERVER, "update", "clusterspiffeids", CRS, name="hanzo.iam"),
    Ask(SERVER, "get", "nodes/proxy", name="node-1"),
    Ask(SERVER, "update", "leases", "coordination.k8s.io", "kube-system", "kube-scheduler"),
    Ask(SERVER, "create", "subjectaccessreviews", "authorization.k8s.io"),
    Ask(AGENT, "get", "nodes/proxy", name="node-1"),
    Ask(AGENT, "create", "nodes/proxy", name="node-1"),
    Ask(AGENT, "create", "tokenreviews", "authentication.k8s.io"),
    Ask(AGENT, "get", "pods", namespace="hanzo", name="iam-1"),
    Ask(AGENT, "get", "secrets", namespace="spire-system", name="spire-datastore"),
    Ask(AGENT, "patch", "configmaps", namespace="spire-system", name="spire-bundle"),
    Ask(AGENT, "list", "clusterspiffeids", CRS),
]

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
