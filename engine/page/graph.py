"""The declared part of the page's graph, as JSON that the builder leaves for the workers."""

from __future__ import annotations

from typing import Any

from zt.effective import Effective
from zt.graph import Edge, Node, graph

Json = dict[str, Any]


def declared(effective: Effective) -> Json:
    """Who may call whom: nodes and edges, as JSON values."""
    found = graph(effective)
    return {"nodes": list(map(_node, found.nodes)), "edges": list(map(_edge, found.edges))}


def _node(node: Node) -> Json:
    return {
        "id": node.id,
        "name": node.name,
        "cluster": node.cluster,
        "namespace": node.namespace,
        "ports": [[port.port, str(port.protocol)] for port in node.ports],
        "phase": node.phase and str(node.phase),
        "critical": node.critical,
    }


def _edge(edge: Edge) -> Json:
    return {
        "source": edge.source,
        "destination": edge.destination,
        "grants": [list(grant) for grant in edge.grants],
        "crosses": edge.crosses,
        "phase": str(edge.phase),
    }
