"""Identity: the configuration of SPIRE, and who is registered with it.

A service's registration is a ``ClusterSPIFFEID`` of spire-controller-manager, which makes one entry
for each pod with the pod's node as its parent: an agent holds the keys of its own node's pods only.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from zt.bundle import CompiledFile
from zt.effective import Effective, EffectiveService
from zt.emit import Noted, note
from zt.model import Mesh, Outside, Service
from zt.wellknown import (
    AGENT_SOCKET,
    BUNDLE_CONFIGMAP,
    BUNDLE_KEY,
    MANAGED_BY,
    SERVER_SOCKET,
    SPIRE_BUNDLE,
    SPIRE_CLASS,
    SPIRE_DATASTORE,
    SPIRE_HEALTH,
    SPIRE_METRICS,
    SPIRE_NAMESPACE,
    SPIRE_NODE_CA,
    SPIRE_SERVER_PORT,
    SPIRE_UPSTREAM,
)

API_VERSION = "spire.spiffe.io/v1alpha1"
AUDIENCE = "spire-server"
_X509POP = "spire/agent/x509pop/"

_SERVER_HEADER = "SPIRE server of {cluster}; its replicas share one database."
_AGENT_HEADER = "SPIRE agent of {cluster}, one on each node."


def compile_spire(effective: Effective, cluster: str) -> Iterator[CompiledFile]:
    """Server, agent and one registration a service, for one cluster."""
    server, agent = _server(effective, cluster), _agent(effective.mesh, cluster)
    yield CompiledFile("spire/server.conf", to_hcl(server, _SERVER_HEADER.format(cluster=cluster)))
    yield CompiledFile("spire/agent.conf", to_hcl(agent, _AGENT_HEADER.format(cluster=cluster)))
    for item in effective.in_cluster(cluster):
        yield _pods(effective.mesh, item)
    for service, outside in _registered_here(effective, cluster):
        yield _static(effective.mesh, service, outside)


def to_hcl(blocks: dict[str, Any], header: str) -> str:
    """Write nested mappings as HCL 1, which SPIRE reads; a key may carry a block's label."""
    return "\n".join([*_comment(header, ""), *_hcl(blocks, ""), ""])


def _hcl(blocks: dict[str, Any], indent: str) -> Iterator[str]:
    for key, item in blocks.items():
        value = item
        if isinstance(item, Noted):
            yield from _comment(item.comment, indent)
            value = item.value
        if not isinstance(value, dict):
            yield f"{indent}{key} = {json.dumps(value)}"
        elif value:
            yield f"{indent}{key} {{"
            yield from _hcl(value, indent + "  ")
            yield f"{indent}}}"
        else:
            yield f"{indent}{key} {{}}"


def _comment(text: str, indent: str) -> list[str]:
    return [f"{indent}# {line}" for line in text.splitlines()]


# --- Server and agent -----------------------------------------------------------------------------


def _server(effective: Effective, cluster: str) -> dict[str, Any]:
    mesh, lifetimes = effective.mesh, effective.mesh.lifetimes
    return {
        "server": {
            "trust_domain": _from_mesh(mesh, mesh.trust_domain, "trustDomain"),
            "bind_port": SPIRE_SERVER_PORT,
            "socket_path": SERVER_SOCKET,
            "data_dir": "/run/spire/data",
            "ca_key_type": _from_mesh(mesh, mesh.algorithms.key_type, "algorithms.keyType"),
            "ca_ttl": _from_mesh(mesh, duration(lifetimes.ca), "lifetimes.ca"),
            "default_x509_svid_ttl": _from_mesh(mesh, duration(lifetimes.svid), "lifetimes.svid"),
            "agent_ttl": duration(lifetimes.svid),
            "default_jwt_svid_ttl": _from_mesh(
                mesh, duration(lifetimes.agent_token), "lifetimes.agentToken"
            ),
            "audit_log_enabled": True,
            "prune_attested_nodes_expired_for": "72h",
        },
        "plugins": _server_plugins(effective, cluster),
        **_observed(),
    }


def _server_plugins(effective: Effective, cluster: str) -> dict[str, Any]:
    return {
        'DataStore "sql"': note(
            {"plugin_data_file": SPIRE_DATASTORE},
            "database_type and connection_string: a file of a Secret, for it holds a password.",
        ),
        'KeyManager "memory"': note(_plugin(), "Each replica has a CA of its own, under one root."),
        'NodeAttestor "k8s_psat"': _plugin(
            clusters={
                json.dumps(cluster): {
                    "service_account_allow_list": [f"{SPIRE_NAMESPACE}:spire-agent"],
                    "audience": [AUDIENCE],
                }
            }
        ),
        **_x509pop(effective, cluster),
        'UpstreamAuthority "disk"': note(
            _plugin(
                cert_file_path=f"{SPIRE_UPSTREAM}/tls.crt",
                key_file_path=f"{SPIRE_UPSTREAM}/tls.key",
                bundle_file_path=f"{SPIRE_UPSTREAM}/bundle.crt",
            ),
            "The issuing CA from KMS, on a volume in memory; read again for every CA.",
        ),
        'BundlePublisher "k8s_configmap"': note(
            _plugin(clusters=_publish(effective, cluster)),
            "A pod mounts ConfigMaps of its own namespace alone, so each has one.",
        ),
    }


def _x509pop(effective: Effective, cluster: str) -> dict[str, Any]:
    """How agents outside Kubernetes are attested, where a service needs one."""
    names = [
        service.name
        for service, outside in _registered_here(effective, cluster)
        if outside.parent.startswith(_X509POP)
    ]
    if not names:
        return {}
    plugin = _plugin(
        ca_bundle_path=f"{SPIRE_NODE_CA}/ca.crt",
        agent_path_template="/{{ .PluginName }}/{{ .Subject.CommonName }}",
    )
    return {'NodeAttestor "x509pop"': note(plugin, f"Agents of {', '.join(names)}.")}


def _publish(effective: Effective, cluster: str) -> dict[str, Any]:
    """In every namespace that has a service; the plugin calls each a cluster."""
    namespaces = {item.service.namespace for item in effective.in_cluster(cluster)}
    return {
        json.dumps(namespace): {
            "namespace": namespace,
            "configmap_name": BUNDLE_CONFIGMAP,
            "configmap_key": BUNDLE_KEY,
            "format": "pem",
        }
        for namespace in sorted(namespaces | {SPIRE_NAMESPACE})
    }


def _agent(mesh: Mesh, cluster: str) -> dict[str, Any]:
    return {
        "agent": {
            "trust_domain": _from_mesh(mesh, mesh.trust_domain, "trustDomain"),
            "server_address": f"spire-server.{SPIRE_NAMESPACE}.svc",
            "server_port": SPIRE_SERVER_PORT,
            "socket_path": AGENT_SOCKET,
            "data_dir": "/run/spire/data",
            "trust_bundle_path": f"{SPIRE_BUNDLE}/{BUNDLE_KEY}",
            "workload_x509_svid_key_type": _from_mesh(
                mesh, mesh.algorithms.key_type, "algorithms.keyType"
            ),
            "sds": note(
                {"default_svid_name": "default", "default_bundle_name": "ROOTCA"},
                "Names by which the sidecars ask for their secrets.",
            ),
        },
        "plugins": {
            'KeyManager "memory"': _plugin(),
            'NodeAttestor "k8s_psat"': _plugin(cluster=cluster),
            'WorkloadAttestor "k8s"': note(_plugin(), "Asks the kubelet, whose CA it verifies."),
        },
        **_observed(),
    }


def _observed() -> dict[str, Any]:
    everywhere = "0.0.0.0"  # noqa: S104 - the kubelet and Prometheus come from outside the pod
    return {
        "health_checks": {
            "listener_enabled": True,
            "bind_address": everywhere,
            "bind_port": str(SPIRE_HEALTH),
            "live_path": "/live",
            "ready_path": "/ready",
        },
        "telemetry": {"Prometheus": {"host": everywhere, "port": SPIRE_METRICS}},
    }


def _plugin(**data: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON value
    return {"plugin_data": data}


def _from_mesh(mesh: Mesh, value: str, name: str) -> Noted:
    return note(str(value), f"Mesh {mesh.name}: {name}")


def duration(seconds: int) -> str:
    """A Go duration in the largest unit that divides it; Go has none above the hour."""
    for unit, size in (("h", 3600), ("m", 60)):
        if seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


# --- Registrations --------------------------------------------------------------------------------


def _pods(mesh: Mesh, item: EffectiveService) -> CompiledFile:
    """Registers the pods of a service."""
    service = item.service
    spec = {
        "className": SPIRE_CLASS,
        "spiffeIDTemplate": item.spiffe,
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": service.namespace}},
        "podSelector": {"matchLabels": service.labels},
        "workloadSelectorTemplates": note(
            [f"k8s:ns:{service.namespace}", f"k8s:sa:{service.account}"],
            "Labels are anyone's to set: without the service account there is no identity.",
        ),
        **_webhook_names(mesh, service),
        "ttl": _from_mesh(mesh, duration(mesh.lifetimes.svid), "lifetimes.svid"),
    }
    return CompiledFile(
        f"spire/registrations/{service.name}.yaml",
        _registration("ClusterSPIFFEID", f"{service.namespace}.{service.name}", spec),
        f"Service {service.name}: one entry for each of its pods.",
    )


def _webhook_names(mesh: Mesh, service: Service) -> dict[str, Any]:
    """The API server knows a webhook by its Service's DNS name."""
    if service.name != mesh.infrastructure.evaluator:
        return {}
    name = f"{service.name}.{service.namespace}.svc"
    names = [name, f"{name}.cluster.local"]
    return {"dnsNameTemplates": note(names, "It serves the admission webhook with its own SVID.")}


def _static(mesh: Mesh, service: Service, outside: Outside) -> CompiledFile:
    """Registers a service that runs outside Kubernetes."""
    spec = {
        "className": SPIRE_CLASS,
        "spiffeID": service.spiffe(mesh),
        "parentID": f"spiffe://{mesh.trust_domain}/{outside.parent}",
        "selectors": list(outside.selectors),
        "x509SVIDTTL": _from_mesh(mesh, duration(mesh.lifetimes.svid), "lifetimes.svid"),
    }
    # A name with a dot cannot be that of a service of the cluster.
    name = f"{service.cluster}.{service.namespace}.{service.name}"
    return CompiledFile(
        f"spire/registrations/{name}.yaml",
        _registration("ClusterStaticEntry", name, spec),
        f"Service {service.name}, outside Kubernetes.",
    )


def _registration(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": name, "labels": dict(MANAGED_BY)}
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec}


def _registered_here(effective: Effective, cluster: str) -> Iterator[tuple[Service, Outside]]:
    for service in effective.policy.services:
        if service.outside is not None and service.outside.registrar == cluster:
            yield service, service.outside
