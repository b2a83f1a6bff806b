"""The evaluator's objects beside its pod."""

from __future__ import annotations

from typing import Any

from components.evaluator.pod import selected, template
from components.evaluator.policies import POLICIES
from components.pods import disruption_budget, metadata
from components.rbac import granted, service_account
from components.settings import StackSettings
from zt.bundle import Bundle
from zt.model import Service
from zt.wellknown import (
    EVALUATOR_API,
    EVALUATOR_GRPC,
    EVALUATOR_WEBHOOK,
    INJECTION_WEBHOOK,
)


def account_manifest(service: Service) -> dict[str, Any]:
    """The evaluator's service account."""
    return service_account(service.account, service.namespace)


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
    account = (service.namespace, service.account)
    return [
        *granted(service.name, everywhere, account),
        *granted(service.name, here, account, service.namespace),
    ]


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
    """How many of its pods may go at a time."""
    return disruption_budget(service.name, service.namespace, selected(service))


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
