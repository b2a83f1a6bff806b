"""Who may open connections to SPIRE's pods. What they open themselves is not restricted.

They need the API server, KMS and a database, which have no pods to be selected by. The kubelet's
probes come from the pod's own node, which Kubernetes always lets in.
"""

from __future__ import annotations

from typing import Any

from components.postgres import PORT as DATABASE_PORT
from components.settings import ClusterDatabase, StackSettings
from components.spire.names import AGENT, DATASTORE, SERVER, labels, own
from zt.facts import Facts
from zt.wellknown import SPIRE_METRICS, SPIRE_SERVER_PORT

Json = dict[str, Any]


def manifests(facts: Facts, settings: StackSettings) -> list[Json]:
    """Default deny of what comes in, and what each part takes."""
    metrics = _metrics(facts)
    found = [
        _policy("default-deny", {}, []),
        _policy(SERVER, labels(SERVER), [_agents(settings), *metrics]),
        _policy(AGENT, labels(AGENT), metrics),
    ]
    if isinstance(settings.spire.datastore, ClusterDatabase):
        found.append(_policy(DATASTORE, labels(DATASTORE), [_rule(DATABASE_PORT, _pods(SERVER))]))
    return found


def _agents(settings: StackSettings) -> Json:
    """Agents outside Kubernetes may be anywhere; the server attests each."""
    if settings.spire.node_authority:
        return {"ports": [_port(SPIRE_SERVER_PORT)]}
    return _rule(SPIRE_SERVER_PORT, _pods(AGENT))


def _metrics(facts: Facts) -> list[Json]:
    service = facts.metrics
    if service is None:
        return []
    where = {"matchLabels": {"kubernetes.io/metadata.name": service.namespace}}
    peer = {"namespaceSelector": where, "podSelector": {"matchLabels": dict(service.labels)}}
    return [_rule(SPIRE_METRICS, peer)]


def _pods(app: str) -> Json:
    return {"podSelector": {"matchLabels": labels(app)}}


def _rule(port: int, peer: Json) -> Json:
    return {"from": [peer], "ports": [_port(port)]}


def _port(port: int) -> Json:
    return {"port": port, "protocol": "TCP"}


def _policy(name: str, pods: dict[str, str], ingress: list[Json]) -> Json:
    selector = {"matchLabels": pods} if pods else {}
    rules = {"ingress": ingress} if ingress else {}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": own(name),
        "spec": {"podSelector": selector, "policyTypes": ["Ingress"], **rules},
    }
