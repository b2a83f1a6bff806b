"""The servers: replicas that share a database, each with a CA of its own under one root."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from components import pods
from components.pods import container_security, pod_security, resources, spread
from components.settings import StackSettings
from components.spire import controller_manager, datastore
from components.spire.authority import VOLUME, Authority, authority
from components.spire.names import (
    API_ACCESS,
    CONFIG,
    DATA,
    SERVER,
    SERVER_USER,
    api_volume,
    http_probe,
    labels,
    mount,
    own,
    pod_metadata,
)
from zt.model import Lifetimes
from zt.wellknown import (
    SERVER_SOCKET,
    SPIRE_HEALTH,
    SPIRE_METRICS,
    SPIRE_NAMESPACE,
    SPIRE_NODE_CA,
    SPIRE_SERVER_PORT,
    SPIRE_UPSTREAM,
)

Json = dict[str, Any]

FILE = "server.conf"
_SOCKET_FOLDER = str(PurePosixPath(SERVER_SOCKET).parent)
# New pods are of no use before they can reach the database, which may start at the same time.
_START_SECONDS = 300


def config_map(text: str) -> Json:
    """The compiled configuration."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": own(SERVER),
        "data": {FILE: text},
    }


def service() -> Json:
    """Where agents find a server."""
    port = {
        "name": "grpc",
        "port": SPIRE_SERVER_PORT,
        "targetPort": SPIRE_SERVER_PORT,
        "protocol": "TCP",
    }
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": own(SERVER),
        "spec": {"type": "ClusterIP", "selector": labels(SERVER), "ports": [port]},
    }


def disruption_budget() -> Json:
    """How many servers may go at a time."""
    return pods.disruption_budget(SERVER, SPIRE_NAMESPACE, labels(SERVER))


def stateful_set(settings: StackSettings, lifetimes: Lifetimes, digest: str) -> Json:
    """The pods. ``digest`` is of their configuration: they read it once, so another restarts them.

    With a node authority, agents outside Kubernetes are attested too.
    """
    template = {"metadata": pod_metadata(SERVER, digest), "spec": _pod(settings, lifetimes)}
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": own(SERVER),
        "spec": {
            "replicas": settings.spire.replicas,
            "serviceName": SERVER,
            # Two that find an empty database at once would both make its tables, and one fails.
            "podManagementPolicy": "OrderedReady",
            "selector": {"matchLabels": labels(SERVER)},
            "template": template,
        },
    }


def _pod(settings: StackSettings, lifetimes: Lifetimes) -> Json:
    issuing = authority(settings, lifetimes)
    init = {"initContainers": issuing.first} if issuing.first else {}
    return {
        "serviceAccountName": SERVER,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "priorityClassName": "system-cluster-critical",
        # The server looks at the process behind each call of its socket: the controller-manager's.
        "shareProcessNamespace": True,
        "securityContext": pod_security(SERVER_USER),
        "topologySpreadConstraints": spread(labels(SERVER)),
        **init,
        "containers": [
            _container(settings),
            controller_manager.container(settings.images.spire_controller_manager),
            *issuing.beside,
        ],
        "volumes": _volumes(settings, issuing),
    }


def _container(settings: StackSettings) -> Json:
    return {
        "name": SERVER,
        "image": settings.images.spire_server,
        "args": ["-config", f"{CONFIG}/{FILE}"],
        "ports": [
            {"name": "grpc", "containerPort": SPIRE_SERVER_PORT},
            {"name": "health", "containerPort": SPIRE_HEALTH},
            {"name": "metrics", "containerPort": SPIRE_METRICS},
        ],
        "startupProbe": http_probe("/live", SPIRE_HEALTH, 5, _START_SECONDS // 5),
        "livenessProbe": http_probe("/live", SPIRE_HEALTH, 20, 3),
        "readinessProbe": http_probe("/ready", SPIRE_HEALTH, 5, 3),
        "resources": resources("100m", "128Mi", "512Mi"),
        "securityContext": container_security(),
        "volumeMounts": [
            mount("config", CONFIG),
            mount("data", DATA, writable=True),
            mount("socket", _SOCKET_FOLDER, writable=True),
            mount("datastore", datastore.FOLDER),
            mount(VOLUME, SPIRE_UPSTREAM),
            mount("api", API_ACCESS),
            *([mount("node-ca", SPIRE_NODE_CA)] if settings.spire.node_authority else []),
        ],
    }


def _volumes(settings: StackSettings, issuing: Authority) -> list[Json]:
    nodes = settings.spire.node_authority
    return [
        {"name": "config", "configMap": {"name": SERVER, "defaultMode": 0o444}},
        controller_manager.volume(),
        {"name": "data", "emptyDir": {"sizeLimit": "16Mi"}},
        {"name": "socket", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        datastore.volume(settings.spire.datastore),
        *issuing.volumes,
        api_volume(),
        *([_node_authority(nodes)] if nodes else []),
    ]


def _node_authority(name: str) -> Json:
    items = [{"key": "ca.crt", "path": "ca.crt"}]
    return {"name": "node-ca", "configMap": {"name": name, "items": items, "defaultMode": 0o444}}
