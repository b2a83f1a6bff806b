"""The containers and volumes of the sidecar.

Two things in them are beyond Pod Security's level ``baseline``: a capability (NET_ADMIN, in an init
container that ends before any other container of the pod starts) and a ``hostPath`` volume (the
SPIRE agent's socket). So a namespace with injection enforces ``privileged``; the sidecar itself
keeps to ``restricted``.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from zt.inject.needs import Images, Needs
from zt.inject.probes import POD_IP, Probe, envoy_configuration
from zt.wellknown import (
    AGENT_SOCKET,
    BUNDLE_CONFIGMAP,
    BUNDLE_KEY,
    SIDECAR_BUNDLE,
    SIDECAR_CONFIGURATION,
    SIDECAR_HEALTH,
    SIDECAR_METRICS,
    SIDECAR_RUN,
    SIDECAR_UID,
    sidecar_configuration,
)

Json = dict[str, Any]

ENVOY = "zt-envoy"
REDIRECT = "zt-redirect"
CONTAINERS = (ENVOY, REDIRECT)
# What a cluster's autoscaler must not take for data of the pod.
SOCKET_VOLUME = "zt-spire"
VOLUMES = ("zt-envoy", "zt-bundle", "zt-run", SOCKET_VOLUME, "zt-no-token")

_SOCKETS = str(PurePosixPath(AGENT_SOCKET).parent)
# Kubernetes puts a token of the service account there; nothing of ours talks with it.
_TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105 - a path
# Seconds that a sidecar may take for its certificate: an entry that is new may take half a minute.
_PATIENCE = 120

_OPTIONS = (
    *("--config-path", f"{SIDECAR_CONFIGURATION}/bootstrap.yaml"),
    *("--concurrency", "2"),
    "--disable-hot-restart",
    # The bound within which connections end that a change of the policy takes away.
    *("--drain-time-s", "3"),
    *("--drain-strategy", "immediate"),
    *("--log-level", "warning"),
)


def sidecar_container(probes: list[Probe], images: Images, *, guaranteed: bool) -> Json:
    """Envoy as a native sidecar: it starts before the application, and ends after it."""
    own = ["--config-yaml", envoy_configuration(probes)] if probes else []
    pod_ip = {"name": POD_IP, "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
    return {
        "name": ENVOY,
        "image": images.envoy,
        "restartPolicy": "Always",
        "command": ["envoy"],
        "args": [*_OPTIONS, *own],
        **({"env": [pod_ip]} if probes else {}),
        "ports": [{"name": "zt-metrics", "containerPort": SIDECAR_METRICS, "protocol": "TCP"}],
        "startupProbe": {
            "httpGet": {"path": "/ready", "port": SIDECAR_HEALTH, "scheme": "HTTP"},
            "periodSeconds": 1,
            "timeoutSeconds": 1,
            "failureThreshold": _PATIENCE,
        },
        "resources": _resources("50m", "64Mi", "1", "256Mi", guaranteed=guaranteed),
        "securityContext": {
            **_least(),
            "runAsNonRoot": True,
            "runAsUser": SIDECAR_UID,
            "runAsGroup": SIDECAR_UID,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "zt-envoy", "mountPath": SIDECAR_CONFIGURATION, "readOnly": True},
            {"name": "zt-bundle", "mountPath": SIDECAR_BUNDLE, "readOnly": True},
            {"name": "zt-run", "mountPath": SIDECAR_RUN},
            {"name": SOCKET_VOLUME, "mountPath": _SOCKETS, "readOnly": True},
            _no_token(),
        ],
    }


def redirect_container(needs: Needs, images: Images, *, guaranteed: bool) -> Json:
    """Leads what comes to captured ports from outside the pod to the sidecar, and ends."""
    return {
        "name": REDIRECT,
        "image": images.redirect,
        "command": ["nft"],
        "args": [redirect_rules(needs)],
        "resources": _resources("10m", "16Mi", "100m", "64Mi", guaranteed=guaranteed),
        "securityContext": {
            **_least(),
            "runAsNonRoot": False,
            "runAsUser": 0,
            "runAsGroup": 0,
            "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]},
        },
        "volumeMounts": [_no_token()],
    }


def redirect_rules(needs: Needs) -> str:
    """The rules, for nft(8): all of them or none, and the same however often they are put in.

    What the pod's own containers dial comes by ``lo``, and reaches the application as ever.
    """
    rules = [
        f'add rule inet zt inbound iifname != "lo" tcp dport {port} redirect to :{inbound}'
        for port, inbound in sorted(needs.captured.items())
    ]
    chain = "{ type nat hook prerouting priority dstnat; policy accept; }"
    anew = ["add table inet zt", "delete table inet zt", "add table inet zt"]
    return "\n".join([*anew, f"add chain inet zt inbound {chain}", *rules])


def volumes(needs: Needs) -> list[Json]:
    """All that the two mount; the socket is mounted into the sidecar alone."""
    return [
        {"name": "zt-envoy", "configMap": {"name": sidecar_configuration(needs.service)}},
        {"name": "zt-bundle", "configMap": {"name": BUNDLE_CONFIGMAP, "items": _bundle_items()}},
        {"name": "zt-run", "emptyDir": _in_memory()},
        {"name": SOCKET_VOLUME, "hostPath": {"path": _SOCKETS, "type": "Directory"}},
        {"name": "zt-no-token", "emptyDir": _in_memory()},
    ]


def _bundle_items() -> list[Json]:
    """Named, so that a pod waits until SPIRE has filled a ConfigMap that was made empty."""
    return [{"key": BUNDLE_KEY, "path": BUNDLE_KEY}]


def _no_token() -> Json:
    return {"name": "zt-no-token", "mountPath": _TOKEN, "readOnly": True}


def _in_memory() -> Json:
    """Not on the node's disk: an autoscaler takes that for data that would be lost."""
    return {"medium": "Memory", "sizeLimit": "1Mi"}


def _least() -> Json:
    return {
        "allowPrivilegeEscalation": False,
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def _resources(cpu: str, memory: str, most_cpu: str, most_memory: str, *, guaranteed: bool) -> Json:
    """Requests and limits, which are the same where the pod's class is to stay Guaranteed."""
    limits = {"cpu": "200m" if guaranteed else most_cpu, "memory": most_memory}
    requests = dict(limits) if guaranteed else {"cpu": cpu, "memory": memory}
    return {"requests": requests, "limits": limits}
