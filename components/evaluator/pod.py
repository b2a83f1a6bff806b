"""The evaluator's pod, as HIP-54 prints it, and what that leaves open."""

from __future__ import annotations

from typing import Any

from components.evaluator.policies import POLICIES
from components.pods import (
    agent_mount,
    agent_volume,
    container_security,
    metadata,
    pod_security,
    spread,
)
from components.settings import ClusterDatabase, ExistingTrail, ManagedDatabase, StackSettings
from zt.bundle import Bundle
from zt.inject import Images, with_sidecar
from zt.model import Service
from zt.wellknown import (
    AGENT_SOCKET,
    EVALUATOR_API,
    EVALUATOR_GRPC,
    EVALUATOR_HEALTH,
    EVALUATOR_WEBHOOK,
    INJECTION_WEBHOOK,
)

SECRET, SECRET_KEY = "zt-secrets", "AUDIT_DATABASE_URL"
# Where the CA of a database outside the mesh is: a ConfigMap that need not be there.
DATABASE_CA, DATABASE_CA_FOLDER = "zt-audit-ca", "/etc/zt/audit"
# What tells the pods of the Deployment from the Jobs that run as the same service.
COMPONENT = "app.kubernetes.io/component"

_POLICIES, _STATE, _RUN, _TEMPORARY = "/etc/zt/policies/", "/var/lib/zt", "/run/zt", "/tmp"  # noqa: S108
_PORTS = {
    "policy": EVALUATOR_API,
    "health": EVALUATOR_HEALTH,
    "grpc": EVALUATOR_GRPC,
    "webhook": EVALUATOR_WEBHOOK,
}


def labels(service: Service, component: str) -> dict[str, str]:
    """Labels of pods that run as a service, and for what."""
    return {**metadata(service.name)["labels"], **service.labels, COMPONENT: component}


def template(bundle: Bundle, settings: StackSettings, service: Service) -> dict[str, Any]:
    """The pod template, with its sidecar."""
    bare = {
        "metadata": {
            "labels": labels(service, "evaluator"),
            "annotations": {
                "prometheus.io/scrape": "true",
                "prometheus.io/scheme": "https",
                "prometheus.io/port": str(EVALUATOR_API),
                "prometheus.io/path": "/metrics",
            },
        },
        "spec": {
            "serviceAccountName": service.account,
            "automountServiceAccountToken": True,
            "securityContext": pod_security(),
            # The spool is drained before it ends.
            "terminationGracePeriodSeconds": 40,
            "topologySpreadConstraints": spread(selected(service)),
            "containers": [_container(settings, service)],
            "volumes": _volumes(),
        },
    }
    return injected(bundle, settings, service, bare)


def injected(
    bundle: Bundle, settings: StackSettings, service: Service, bare: dict[str, Any]
) -> dict[str, Any]:
    """A pod template of the mesh's own with its sidecar, since no webhook is there before it."""
    images = Images(envoy=settings.images.envoy, redirect=settings.images.gateway)
    return with_sidecar(bundle, service.name, bare, images)


def dsn_reference(settings: StackSettings) -> dict[str, str]:
    """Where the DSN is that the evaluator writes by."""
    match settings.audit:
        case ExistingTrail(secret=secret, key=key):
            return {"name": secret, "key": key}
        case ClusterDatabase() | ManagedDatabase():
            return {"name": SECRET, "key": SECRET_KEY}


def _container(settings: StackSettings, service: Service) -> dict[str, Any]:
    probe = {"httpGet": {"path": "/healthz", "port": EVALUATOR_HEALTH}}
    # It is alive while it waits for its SVID, and nobody is to be sent to it before.
    ready = {"httpGet": {"path": "/readyz", "port": EVALUATOR_HEALTH}}
    return {
        "name": "zt",
        "image": settings.images.evaluator,
        "ports": [{"containerPort": port, "name": name} for name, port in _PORTS.items()],
        "env": list(_environment(settings, service)),
        "resources": {
            "requests": {"memory": "128Mi", "cpu": "100m"},
            "limits": {"memory": "512Mi", "cpu": "500m"},
        },
        "startupProbe": {**ready, "periodSeconds": 2, "failureThreshold": 300},
        "readinessProbe": {**probe, "initialDelaySeconds": 5, "periodSeconds": 10},
        "livenessProbe": {**probe, "initialDelaySeconds": 15, "periodSeconds": 30},
        "securityContext": container_security(),
        "volumeMounts": [
            {"name": "policies", "mountPath": _POLICIES, "readOnly": True},
            {"name": "database-ca", "mountPath": DATABASE_CA_FOLDER, "readOnly": True},
            agent_mount(),
            {"name": "state", "mountPath": _STATE},
            {"name": "svid", "mountPath": _RUN},
            {"name": "temporary", "mountPath": _TEMPORARY},
        ],
    }


def _environment(settings: StackSettings, service: Service) -> list[dict[str, Any]]:
    plain = {
        "ZT_SPIRE_SOCKET": AGENT_SOCKET,
        "ZT_POLICY_PATH": _POLICIES,
        "ZT_STATE_PATH": _STATE,
        "ZT_DURABILITY": settings.evaluator.durability,
        "ZT_CLUSTER": service.cluster,
        "ZT_POLICY_CONFIGMAP": f"{service.namespace}/{POLICIES}",
        "ZT_WEBHOOK": INJECTION_WEBHOOK,
        "ZT_ENVOY_IMAGE": settings.images.envoy,
        "ZT_REDIRECT_IMAGE": settings.images.gateway,
    }
    dsn = {"name": "ZT_AUDIT_DSN", "valueFrom": {"secretKeyRef": dsn_reference(settings)}}
    return [*({"name": name, "value": value} for name, value in plain.items()), dsn]


def _volumes() -> list[dict[str, Any]]:
    return [
        {"name": "policies", "configMap": {"name": POLICIES}},
        {"name": "database-ca", "configMap": {"name": DATABASE_CA, "optional": True}},
        agent_volume(),
        # Outlives the container: the spool (1 GiB at most), tables and counters.
        {"name": "state", "emptyDir": {"sizeLimit": "3Gi"}},
        {"name": "svid", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        {"name": "temporary", "emptyDir": {"sizeLimit": "64Mi"}},
    ]


def selected(service: Service) -> dict[str, str]:
    """Labels that select the evaluator's own pods."""
    return {**service.labels, COMPONENT: "evaluator"}
