"""The evaluator's objects: as the specification prints them, valid, and steady."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import kubernetes_validate
import pulumi
import pytest
import yaml

from components.evaluator import evaluator_of
from components.evaluator.objects import (
    account_manifest,
    budget_manifest,
    deployment_manifest,
    rights_manifests,
    service_manifest,
)
from components.evaluator.policies import policies_manifest
from components.settings import ExistingTrail
from engine.settings import POLICY_PATH, STATE_PATH, from_environment
from tests.components.evaluator.asks import FORBIDDEN, NEEDED
from tests.components.spire.asks import Ask
from tests.components.spire.cases import LAB, PLAIN, POLICY, bundle_of
from tests.strategies import TODAY
from zt.bundle import Bundle
from zt.compile import compile_policy
from zt.model import Policy

Json = dict[str, Any]

# HIP-54, "Policy Engine".
PRINTED = """
apiVersion: apps/v1
kind: Deployment
metadata:
  name: zt-policy-engine
  namespace: hanzo
spec:
  replicas: 3
  template:
    spec:
      containers:
        - name: zt
          image: ghcr.io/hanzoai/zt:latest
          ports:
            - containerPort: 8054
              name: policy
            - containerPort: 8055
              name: health
          env:
            - name: ZT_SPIRE_SOCKET
              value: /run/spire/sockets/agent.sock
            - name: ZT_POLICY_PATH
              value: /etc/zt/policies/
            - name: ZT_AUDIT_DSN
              valueFrom:
                secretKeyRef:
                  name: zt-secrets
                  key: AUDIT_DATABASE_URL
          resources:
            requests:
              memory: "128Mi"
              cpu: "100m"
            limits:
              memory: "512Mi"
              cpu: "500m"
          readinessProbe:
            httpGet:
              path: /healthz
              port: 8055
            initialDelaySeconds: 5
            periodSeconds: 10
          livenessProbe:
            httpGet:
              path: /healthz
              port: 8055
            initialDelaySeconds: 15
            periodSeconds: 30
"""


def lacking(printed: Any, found: Any, path: str = "") -> list[str]:  # noqa: ANN401 - JSON
    """What is printed and not found; lists of named things may hold more."""
    if isinstance(printed, dict) and isinstance(found, dict):
        return [
            problem
            for key, value in printed.items()
            for problem in lacking(value, found.get(key), f"{path}.{key}")
        ]
    if isinstance(printed, list) and isinstance(found, list):
        named = {item["name"]: item for item in found}
        return [
            problem
            for item in printed
            for problem in lacking(item, named.get(item["name"]), f"{path}[{item['name']}]")
        ]
    return [] if printed == found else [f"{path} is {found!r}"]


def deployment(bundle: Bundle | None = None) -> Json:
    bundle = bundle or bundle_of("hanzo-k8s")
    return deployment_manifest(bundle, LAB, evaluator_of(bundle))


def container() -> Json:
    (found,) = deployment()["spec"]["template"]["spec"]["containers"]
    return dict(found)


def everything(cluster: str) -> list[Json]:
    bundle = bundle_of(cluster)
    service = evaluator_of(bundle)
    settings = replace(LAB, cluster=cluster)
    return [
        account_manifest(service),
        service_manifest(service),
        budget_manifest(service),
        policies_manifest(service.namespace, {"mesh.yaml": "a", "access/core.yml": "b"}),
        *rights_manifests(service),
        deployment_manifest(bundle, settings, service),
    ]


def test_it_is_what_the_specification_prints() -> None:
    assert lacking(yaml.safe_load(PRINTED), deployment()) == []


def test_nobody_is_sent_to_a_pod_that_waits_for_its_svid() -> None:
    """``/healthz`` answers meanwhile, so what the specification prints would call it ready."""
    assert container()["startupProbe"]["httpGet"] == {"path": "/readyz", "port": 8055}


def test_what_is_printed_otherwise_is_noticed() -> None:
    changed = yaml.safe_load(PRINTED.replace("512Mi", "1Gi").replace("8055", "8056"))
    assert len(lacking(changed, deployment())) == 4


@pytest.mark.parametrize("version", ["1.30", "1.35"])
@pytest.mark.parametrize("cluster", ["hanzo-k8s", "lux-k8s"])
def test_all_objects_are_valid(cluster: str, version: str) -> None:
    for manifest in everything(cluster):
        kubernetes_validate.validate(manifest, version, strict=True)


def test_the_evaluator_starts_with_these_settings() -> None:
    given = {item["name"]: item.get("value", "dbname=x") for item in container()["env"]}
    settings = from_environment(given)
    assert settings.cluster == "hanzo-k8s"
    assert settings.config_map is not None
    assert settings.config_map.namespace == "hanzo"
    assert f"{settings.policy_path}/" == POLICY_PATH
    assert str(settings.state_path) == STATE_PATH
    ports = {item["containerPort"] for item in container()["ports"]}
    assert {settings.api.port, settings.health.port, settings.grpc.port} <= ports


def test_it_writes_nowhere_but_where_a_volume_is() -> None:
    pod = deployment()["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    for found in (*pod["containers"], *pod["initContainers"]):
        assert found["securityContext"]["readOnlyRootFilesystem"]
        assert not found["securityContext"]["allowPrivilegeEscalation"]
    writable = {
        mount["mountPath"] for mount in container()["volumeMounts"] if not mount.get("readOnly")
    }
    assert writable == {STATE_PATH, "/run/zt", "/tmp"}  # noqa: S108 - the container's own


def test_service_and_budget_select_the_deployments_pods_and_no_jobs() -> None:
    service = evaluator_of(bundle_of("hanzo-k8s"))
    pods = deployment()["spec"]["template"]["metadata"]["labels"]
    selector = service_manifest(service)["spec"]["selector"]
    assert selector.items() <= pods.items()
    assert selector == deployment()["spec"]["selector"]["matchLabels"]
    assert selector == budget_manifest(service)["spec"]["selector"]["matchLabels"]
    assert selector.items() > service.labels.items()


def test_an_existing_secret_is_referred_to() -> None:
    bundle = bundle_of("lux-k8s")
    settings = replace(PLAIN, audit=ExistingTrail(secret="ours", key="url"))
    pod = deployment_manifest(bundle, settings, evaluator_of(bundle))["spec"]["template"]["spec"]
    dsn = pod["containers"][0]["env"][-1]
    assert dsn["valueFrom"]["secretKeyRef"] == {"name": "ours", "key": "url"}


def test_a_mesh_without_an_evaluator_is_refused() -> None:
    bundle = bundle_of("hanzo-k8s")
    assert bundle.facts is not None
    without = replace(bundle, facts=replace(bundle.facts, evaluator=None))
    with pytest.raises(pulumi.RunError, match="declares no evaluator in cluster hanzo-k8s"):
        evaluator_of(without)


# --- A policy that changes ------------------------------------------------------------------------


def _without_a_rule(policy: Policy) -> Policy:
    first, *others = policy.access
    return replace(policy, access=(replace(first, rules=first.rules[:-1]), *others))


def _enforced(policy: Policy) -> Policy:
    assert policy.rollout is not None
    return replace(policy, rollout=None)


@pytest.mark.parametrize("change", [_without_a_rule, _enforced])
def test_a_change_of_the_policy_restarts_no_pod(change: Any) -> None:  # noqa: ANN401 - a function
    changed = compile_policy(change(POLICY), "hanzo-k8s", TODAY)
    assert changed.digest() != bundle_of("hanzo-k8s").digest()
    assert deployment(changed) == deployment()


# --- Policies in a ConfigMap ----------------------------------------------------------------------


def test_policies_are_keys() -> None:
    found = policies_manifest("hanzo", {"mesh.yaml": "a: 1\n", "access/core.yaml": "b: 2\n"})
    assert found["data"] == {"access.core.yaml": "b: 2\n", "mesh.yaml": "a: 1\n"}


def test_two_policies_of_one_key_are_refused() -> None:
    with pytest.raises(pulumi.RunError, match=r"a.b.yaml and a/b.yaml would have the same key"):
        policies_manifest("hanzo", {"a/b.yaml": "", "a.b.yaml": ""})


def test_what_a_configmap_cannot_hold_is_refused() -> None:
    most = (1 << 20) - len("a.yaml")
    assert policies_manifest("hanzo", {"a.yaml": "x" * most})
    with pytest.raises(pulumi.RunError, match=r"1,048,577 bytes, and ConfigMap zt-policies holds"):
        policies_manifest("hanzo", {"a.yaml": "x" * (most + 1)})
    with pytest.raises(pulumi.RunError, match="bytes"):
        policies_manifest("hanzo", {"a.yaml": "é" * (most // 2 + 1)})


# --- Rights ---------------------------------------------------------------------------------------


def allowed(ask: Ask) -> bool:
    """Whether one of the roles grants it, by the rules of RBAC."""
    return any(
        (role["metadata"].get("namespace", ask.namespace) == ask.namespace)
        and ask.group in rule["apiGroups"]
        and ask.resource in rule["resources"]
        and ask.verb in rule["verbs"]
        and ask.name in rule.get("resourceNames", [ask.name])
        for role in rights_manifests(evaluator_of(bundle_of("hanzo-k8s")))
        for rule in role.get("rules", ())
    )


@pytest.mark.parametrize("ask", NEEDED, ids=str)
def test_it_may_do_what_it_needs(ask: Ask) -> None:
    assert allowed(ask)


@pytest.mark.parametrize("ask", FORBIDDEN, ids=str)
def test_it_may_not(ask: Ask) -> None:
    assert not allowed(ask)


def test_roles_are_bound_to_its_account_alone() -> None:
    bindings = [
        item
        for item in rights_manifests(evaluator_of(bundle_of("lux-k8s")))
        if item["kind"].endswith("Binding")
    ]
    assert [item["kind"] for item in bindings] == ["ClusterRoleBinding", "RoleBinding"]
    for binding in bindings:
        (subject,) = binding["subjects"]
        assert (subject["namespace"], subject["name"]) == ("lux", "zt-policy-engine")
