"""The evaluator's objects beside its pod."""

from __future__ import annotations

from typing import Any

from components.evaluator.pod import selected, template
from components.evaluator.policies import POLICIES
from components.pods import metadata
from components.settings import StackSettings
from zt.bundle import Bundle
from zt.model import Service
from zt.wellknown import (
    EVALUATOR_API,
    EVALUATOR_GRPC,
    EVALUATOR_WEBHOOK,
    INJECTION_WEBHOOK,
)

_RBAC = "rbac.authorization.k8s.io"


def account_manifest(service: Service) -> dict[str, Any]:
    """The service account: its tokens are mounted where a pod asks for them."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(service.account, service.namespace),
        "automountServiceAccountToken": False,
    }


def rights_manifests(service: Service) -> list[dict[str, Any]]:
    """All that the evaluator may do, in roles and bindings of its name.

    In the cluster: watch pods, and keep the CA of the one webhook. In its namespace: change the one
    ConfigMap of policies.
    """
    everywhere = [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]},
        {
            "apiGroups": ["admissionregistration.k8s.io"],
            "resources": ["mutatingwebhookconfigurations"],
            "resourceNames": [INJECTION_WEBHOOK],
            "verbs": ["get", "patch"],
        },
    ]
    here = [
        {
            "apiGroups": [""],
            "resources": ["configmaps"],
            "resourceNames": [POLICIES],
            "verbs": ["get", "update"],
        }
    ]
    return [*_rights(service, None, everywhere), *_rights(service, service.namespace, here)]


def _rights(
    service: Service, namespace: str | None, rules: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    kind = "Role" if namespace else "ClusterRole"
    account = {
        "kind": "ServiceAccount",
        "name": service.account,
        "namespace": service.namespace,
    }
    role = {
        "apiVersion": f"{_RBAC}/v1",
        "kind": kind,
        "metadata": metadata(service.name, namespace),
        "rules": rules,
    }
    binding = {
        "apiVersion": f"{_RBAC}/v1",
        "kind": f"{kind}Binding",
        "metadata": metadata(service.name, namespace),
        "roleRef": {"apiGroup": _RBAC, "kind": kind, "name": service.name},
        "subjects": [account],
    }
    return [role, binding]


def service_manifest(service: Service) -> dict[str, Any]:
    """The Service that sidecars, operators and the API server call."""
    ports = {"policy": EVALUATOR_API, "grpc": EVALUATOR_GRPC, "webhook": EVALUATOR_WEBHOOK}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(service.name, service.namespace),
        "spec": {
            "selector": selected(service),
            "ports": [
                {"name": name, "port": port, "targetPort": name, "protocol": "TCP"}
                for name, port in ports.items()
            ],
        },
    }


def budget_manifest(service: Service) -> dict[str, Any]:
    """At most one pod goes at a time, also where there is but one."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(service.name, service.namespace),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": selected(service)}},
    }


def deployment_manifest(
    bundle: Bundle, settings: StackSettings, service: Service
) -> dict[str, Any]:
    """The Deployment. An update never lets a replica go before its successor answers."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(service.name, service.namespace),
        "spec": {
            "replicas": settings.evaluator.replicas,
            "revisionHistoryLimit": 3,
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1},
            },
            "selector": {"matchLabels": selected(service)},
            "template": template(bundle, settings, service),
        },
    }
