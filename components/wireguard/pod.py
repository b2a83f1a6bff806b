"""The gateway's pod: the tunnel beside its Envoy, in one network namespace.

Envoy passes TLS on by its SNI. So the pod forwards no packets, and the networks of two clusters may
overlap.
"""

from __future__ import annotations

from typing import Any

from components.keys import Delivery, key_arguments, key_container, key_volumes, token_mount
from components.pods import (
    AGENT_VOLUME,
    agent_mount,
    agent_volume,
    container_security,
    resources,
)
from components.settings import Gateway, KeySource, StackSettings
from zt.inject.restore import SAFE_TO_EVICT
from zt.model import Service
from zt.wellknown import AGENT_SOCKET, MANAGED_BY

Json = dict[str, Any]

METRICS = 9586
PEERS_FILE = "peers.json"
_PEERS = "/etc/zt/wireguard"
_KEYS = "/run/zt/wireguard"
# Of the secret (gateway.tunnel.store.BOOK).
_FIELDS = ("book",)
_SOCKETS = "/var/run/wireguard"
_TUN = "/dev/net/tun"
# Kubernetes gives an added capability to root alone. This root has NET_ADMIN and nothing else: it
# can't even read files of others, so the key is written by root too.
_USER = 0


def pod_template(service: Service, settings: StackSettings, keys: KeySource, port: int) -> Json:
    """The pod before injection; ``port`` is the tunnel's UDP port.

    With ``userspace`` it has the node's TUN device, for ``wireguard-go``; else the node's kernel
    has WireGuard.
    """
    image, gateway = settings.images.gateway, settings.gateway
    delivery = Delivery(
        # The first key is made by the gateway, so at first there is none.
        source=keys,
        image=image,
        volume="keys",
        folder=_KEYS,
        user=_USER,
        fields=_FIELDS,
        optional=True,
    )
    return {
        "metadata": {
            "labels": MANAGED_BY | service.labels,
            "annotations": {SAFE_TO_EVICT: AGENT_VOLUME},
        },
        "spec": {
            "serviceAccountName": service.account,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 30,
            "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
            "initContainers": [key_container(delivery)],
            "containers": [_tunnel(image, gateway, keys, port)],
            "volumes": [
                *key_volumes(delivery),
                {"name": "peers", "configMap": {"name": peers_name(service)}},
                {"name": "sockets", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
                agent_volume(),
                *([_tun_volume()] if gateway.userspace else []),
            ],
        },
    }


def peers_name(service: Service) -> str:
    """Name of the ConfigMap of the tunnel's peers."""
    return f"{service.name}-peers"


def _tunnel(image: str, gateway: Gateway, keys: KeySource, port: int) -> Json:
    mounts: list[Json] = [
        {"name": "peers", "mountPath": _PEERS, "readOnly": True},
        # Not read-only: the key is handed to `wg` by file, and the file is then removed.
        {"name": "keys", "mountPath": _KEYS},
        {"name": "sockets", "mountPath": _SOCKETS},
        # It makes new keys, and stores them; as this pod's SVID it vouches for them.
        token_mount(),
        agent_mount(),
    ]
    if gateway.userspace:
        mounts.append({"name": "tun", "mountPath": _TUN})
    return {
        "name": "wireguard",
        "image": image,
        "command": ["python3", "-m", "gateway.tunnel"],
        "args": [
            f"--peers={_PEERS}/{PEERS_FILE}",
            f"--keys={_KEYS}",
            f"--svid=unix://{AGENT_SOCKET}",
            f"--drain={gateway.drain}",
            *key_arguments(keys),
        ],
        "ports": [
            {"name": "wireguard", "protocol": "UDP", "containerPort": port},
            {"name": "metrics", "protocol": "TCP", "containerPort": METRICS},
        ],
        "readinessProbe": _health(period=5),
        "livenessProbe": _health(period=20),
        "securityContext": {
            "runAsUser": _USER,
            "runAsGroup": _USER,
            **container_security(),
            "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]},
        },
        # All that crosses clusters goes through it: starved, it is slow. Two wireguard-go have a
        # memory of 224Mi each (gateway.tunnel.wg), sockets 28Mi, and the program 65Mi.
        "resources": resources("250m", "128Mi", "576Mi"),
        "volumeMounts": mounts,
    }


def _health(period: int) -> Json:
    """Whether the program answers; a tunnel that is down is a matter for alerts, not restarts."""
    return {"httpGet": {"path": "/healthz", "port": METRICS}, "periodSeconds": period}


def _tun_volume() -> Json:
    return {"name": "tun", "hostPath": {"path": _TUN, "type": "CharDevice"}}
