"""The agents, one on each node: they attest workloads, and hand SVIDs out over a socket."""

from __future__ import annotations

from typing import Any

from components.pods import AGENT_FOLDER, container_security, resources
from components.settings import StackSettings
from components.spire.names import (
    AGENT,
    API_ACCESS,
    CONFIG,
    DATA,
    api_volume,
    http_probe,
    labels,
    mount,
    own,
    pod_metadata,
)
from zt.compile.spire import AUDIENCE
from zt.wellknown import (
    BUNDLE_CONFIGMAP,
    BUNDLE_KEY,
    SPIRE_BUNDLE,
    SPIRE_HEALTH,
    SPIRE_METRICS,
)

Json = dict[str, Any]

FILE = "agent.conf"
# Where SPIRE looks for the token that proves to the server which node an agent is on.
_TOKENS = "/var/run/secrets/tokens"
_TOKEN_SECONDS = 600


def config_map(text: str) -> Json:
    """The compiled configuration."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": own(AGENT), "data": {FILE: text}}


def bundle_map(namespace: str) -> Json:
    """The ConfigMap that the servers write the trust bundle to. What is in it is theirs alone.

    The stack makes it, so that the servers need not be let to, and ``destroy`` takes it away.
    """
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {**own(BUNDLE_CONFIGMAP), "namespace": namespace},
    }


def daemon_set(settings: StackSettings, digest: str) -> Json:
    """The pods; another configuration, of which ``digest`` is, restarts them.

    Sidecars keep their certificates while their agent restarts.
    """
    template = {"metadata": pod_metadata(AGENT, digest), "spec": _pod(settings)}
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": own(AGENT),
        "spec": {
            "selector": {"matchLabels": labels(AGENT)},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "10%"}},
            "template": template,
        },
    }


def _pod(settings: StackSettings) -> Json:
    return {
        "serviceAccountName": AGENT,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "priorityClassName": "system-node-critical",
        "tolerations": [{"operator": "Exists"}],
        # It finds out which container a caller's process is in.
        "hostPID": True,
        # Root, without any capability: the socket's folder on the node belongs to root.
        "securityContext": {
            "runAsUser": 0,
            "runAsGroup": 0,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(settings)],
        "volumes": _volumes(),
    }


def _container(settings: StackSettings) -> Json:
    # By its address: names of nodes need not resolve, and addresses are in kubelets' certificates.
    node = {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.hostIP"}}
    return {
        "name": AGENT,
        "image": settings.images.spire_agent,
        "args": ["-config", f"{CONFIG}/{FILE}"],
        "env": [{"name": "MY_NODE_NAME", "valueFrom": node}],
        "ports": [
            {"name": "health", "containerPort": SPIRE_HEALTH},
            {"name": "metrics", "containerPort": SPIRE_METRICS},
        ],
        "startupProbe": http_probe("/live", SPIRE_HEALTH, 5, 60),
        "livenessProbe": http_probe("/live", SPIRE_HEALTH, 20, 3),
        "readinessProbe": http_probe("/ready", SPIRE_HEALTH, 5, 3),
        "resources": resources("50m", "64Mi", "256Mi"),
        "securityContext": container_security(),
        "volumeMounts": [
            mount("config", CONFIG),
            mount("data", DATA, writable=True),
            mount("bundle", SPIRE_BUNDLE),
            mount("sockets", AGENT_FOLDER, writable=True),
            mount("tokens", _TOKENS),
            mount("api", API_ACCESS),
        ],
    }


def _volumes() -> list[Json]:
    # With the key named, a pod waits for the bundle to be published; it would not start without.
    bundle = {
        "name": BUNDLE_CONFIGMAP,
        "items": [{"key": BUNDLE_KEY, "path": BUNDLE_KEY}],
        "defaultMode": 0o444,
    }
    token = {"path": AGENT, "audience": AUDIENCE, "expirationSeconds": _TOKEN_SECONDS}
    return [
        {"name": "config", "configMap": {"name": AGENT, "defaultMode": 0o444}},
        # In memory, as its keys are.
        {"name": "data", "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}},
        {"name": "bundle", "configMap": bundle},
        {"name": "sockets", "hostPath": {"path": AGENT_FOLDER, "type": "DirectoryOrCreate"}},
        {
            "name": "tokens",
            "projected": {"sources": [{"serviceAccountToken": token}], "defaultMode": 0o400},
        },
        api_volume(),
    ]
