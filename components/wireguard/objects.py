"""The objects of a cluster's gateway, each by a plain function."""

from __future__ import annotations

import json
from typing import Any

from components.pods import metadata
from components.rbac import service_account
from components.settings import StackSettings
from components.wireguard.peers import tunnel_of
from components.wireguard.pod import METRICS, PEERS_FILE, peers_name
from zt.bundle import Bundle
from zt.model import Gateway, Service
from zt.wellknown import GATEWAY_LOCAL, GATEWAY_TUNNEL, WIREGUARD_LANES

Json = dict[str, Any]

# A load balancer that passes packets on: it knows UDP, and callers keep their addresses.
_DIGITALOCEAN = {"service.beta.kubernetes.io/do-loadbalancer-type": "REGIONAL_NETWORK"}


def account_manifest(service: Service) -> Json:
    """The gateway's service account. No role is bound to it: it has nothing to ask the API for."""
    return service_account(service.account, service.namespace)


def peers_manifest(service: Service, bundle: Bundle, settings: StackSettings) -> Json:
    """Addresses, endpoints and public keys; what is mounted follows it without a restart."""
    tunnel = json.dumps(tunnel_of(bundle, settings), indent=2)
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(peers_name(service), service.namespace),
        "data": {PEERS_FILE: f"{tunnel}\n"},
    }


def deployment_manifest(service: Service, template: Json) -> Json:
    """One pod, and the old one ends first: two with one key would take each other's packets."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(service.name, service.namespace),
        "spec": {
            "replicas": 1,
            "revisionHistoryLimit": 2,
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": service.labels},
            "template": template,
        },
    }


def mesh_manifest(service: Service) -> Json:
    """The gateway inside its cluster: sidecars dial it, Prometheus scrapes it."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(service.name, service.namespace),
        "spec": {
            "selector": service.labels,
            "ports": [
                _port("sidecars", "TCP", GATEWAY_LOCAL),
                _port("metrics", "TCP", METRICS),
            ],
        },
    }


def tunnel_manifest(service: Service, tunnel: Gateway, *, production: bool) -> Json:
    """The gateway as the outside sees it: WireGuard, and the port of callers outside Kubernetes.

    By a load balancer, in production DigitalOcean's, whose health check needs a TCP port beside
    UDP. Only the node that the pod is on answers it, so packets come with their source.
    """
    first = tunnel.endpoint.port
    described = metadata(f"{service.name}-tunnel", service.namespace)
    if production:
        described["annotations"] = dict(_DIGITALOCEAN)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": described,
        "spec": {
            "type": "LoadBalancer",
            "externalTrafficPolicy": "Local",
            "selector": service.labels,
            "ports": [
                *(
                    _port(f"wireguard-{lane}", "UDP", first + lane)
                    for lane in range(WIREGUARD_LANES)
                ),
                _port("arrivals", "TCP", GATEWAY_TUNNEL),
            ],
        },
    }


def _port(name: str, protocol: str, number: int) -> Json:
    return {"name": name, "protocol": protocol, "port": number, "targetPort": number}
