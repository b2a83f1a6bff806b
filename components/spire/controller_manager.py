"""spire-controller-manager: makes entries of registrations, in the same pod as each server.

One of them does at a time; they elect it. It speaks with its own pod's server, over a socket.
"""

from __future__ import annotations

import json
from typing import Any

from components.pods import container_security, resources
from components.spire.crds import GROUP, VERSION
from components.spire.names import (
    API_ACCESS,
    CONTROLLER_MANAGER,
    CONTROLLER_MANAGER_CONFIG,
    CONTROLLER_MANAGER_HEALTH,
    http_probe,
    mount,
    own,
    watched_namespaces,
)
from zt.facts import Facts
from zt.wellknown import SERVER_SOCKET, SPIRE_CLASS, SPIRE_NAMESPACE

Json = dict[str, Any]

FILE = "config.yaml"
# Where nobody of ours should ever get an identity, unless a service was declared there.
_IGNORED = ("kube-node-lease", "kube-public", "kube-system", SPIRE_NAMESPACE)


def config_map(facts: Facts) -> Json:
    """Its configuration. It reads YAML, which JSON is too."""
    text = json.dumps(configuration(facts), indent=2) + "\n"
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": own(CONTROLLER_MANAGER),
        "data": {FILE: text},
    }


def configuration(facts: Facts) -> Json:
    """What it is told. The policy has one trust domain, so it makes no federation."""
    watched = watched_namespaces(facts)
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "ControllerManagerConfig",
        "trustDomain": facts.trust_domain,
        "clusterName": facts.cluster,
        "clusterDomain": "cluster.local",
        "className": SPIRE_CLASS,
        "watchClassless": False,
        "reconcile": {
            "clusterSPIFFEIDs": True,
            "clusterStaticEntries": True,
            "clusterFederatedTrustDomains": False,
        },
        "cacheNamespaces": {namespace: {} for namespace in watched},
        "ignoreNamespaces": [f"^{name}$" for name in _IGNORED if name not in watched],
        "spireServerSocketPath": SERVER_SOCKET,
        "leaderElection": {
            "leaderElect": True,
            "resourceName": CONTROLLER_MANAGER,
            "resourceNamespace": SPIRE_NAMESPACE,
        },
        "health": {"healthProbeBindAddress": f":{CONTROLLER_MANAGER_HEALTH}"},
        "metrics": {"bindAddress": "0"},
        "logEncoding": "json",
    }


def container(image: str) -> Json:
    """The container; the server's pod has its volumes."""
    socket_folder = SERVER_SOCKET.rpartition("/")[0]
    return {
        "name": CONTROLLER_MANAGER,
        "image": image,
        "args": [f"--config={CONTROLLER_MANAGER_CONFIG}/{FILE}"],
        # The schemas of the custom resources refuse what its webhook would.
        "env": [{"name": "ENABLE_WEBHOOKS", "value": "false"}],
        "ports": [{"name": "healthz", "containerPort": CONTROLLER_MANAGER_HEALTH}],
        "livenessProbe": http_probe("/healthz", CONTROLLER_MANAGER_HEALTH, 20, 3),
        "readinessProbe": http_probe("/readyz", CONTROLLER_MANAGER_HEALTH, 10, 3),
        "resources": resources("50m", "64Mi", "256Mi"),
        "securityContext": container_security(),
        "volumeMounts": [
            mount("controller-manager", CONTROLLER_MANAGER_CONFIG),
            mount("socket", socket_folder),
            mount("api", API_ACCESS),
        ],
    }


def volume() -> Json:
    """Its configuration."""
    return {
        "name": "controller-manager",
        "configMap": {"name": CONTROLLER_MANAGER, "defaultMode": 0o444},
    }
