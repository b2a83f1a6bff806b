"""The declared part of the page's graph: drawn by the builder, so that no worker has to.

A graph that is too large to be looked at is drawn by namespaces, or by clusters.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from zt.effective import Effective
from zt.graph import Edge, Graph, Node, graph
from zt.model import Phase
from zt.render.route import Box, Drawing, Line, drawing
from zt.render.svg import rounded
from zt.spiffe import SCHEME

Json = dict[str, Any]
Pair = tuple[str, str]
Grants = tuple[tuple[int, str], ...]

NODES_SHOWN = 300
EDGES_SHOWN = 1_000
RULES_SHOWN = 50
# Of a group: its services may be in different ones.
_NO_PHASE = Phase.ENFORCE


class Level(StrEnum):
    """What a node stands for."""

    SERVICES = "services"
    NAMESPACES = "namespaces"
    CLUSTERS = "clusters"


# How many names after the trust domain tell a node of each level.
_DEPTH = {Level.SERVICES: 3, Level.NAMESPACES: 2, Level.CLUSTERS: 1}


@dataclass(frozen=True, slots=True)
class _Shown:
    """A graph of a level; ``edges`` and ``parties`` count what each of its own stands for.

    The edges of groups have no ports, so that those which end in the same group share an arrow;
    what is granted stands in ``grants``.
    """

    level: Level
    graph: Graph
    grants: Mapping[Pair, Grants]
    edges: Counter[Pair]
    parties: Counter[str]


def declared(effective: Effective) -> Json:
    """Who may call whom, as JSON values: what there is, and where it stands in the picture.

    ``nodes`` have a ``box`` (left, top, width, height, in pixels), ``edges`` the ``path`` of a
    line from the arrow's tip back to the source; both have what ``engine.page.seen`` tells of them.
    """
    whole = graph(effective)
    shown = _shown(whole)
    drawn = drawing(shown.graph)
    return {
        "level": str(shown.level),
        "width": drawn.width,
        "height": drawn.height,
        "services": sum(not node.is_external for node in whole.nodes),
        "edges_in_all": len(whole.edges),
        "phases": Counter(str(node.phase) for node in whole.nodes if node.phase is not None),
        "parties": sorted(node.id for node in whole.nodes)[:EDGES_SHOWN],
        "places": [[kind, name, _corners(box)] for kind, name, box in drawn.places],
        "nodes": [_node(node, box, shown.parties[node.id]) for node, box in drawn.nodes],
        "edges": list(_edges(drawn, shown)),
        "arrows": [_arrow(line) for line in drawn.lines],
    }


def group(party: str | None, level: Level) -> str:
    """The node that a party belongs to: itself, or its namespace or cluster; ``""`` for nobody."""
    if party is None or not party.startswith(SCHEME):
        return party or ""
    domain, *path = party.removeprefix(SCHEME).split("/")
    return f"{SCHEME}{'/'.join((domain, *path[: _DEPTH[level]]))}"


def is_party(name: str) -> bool:
    """Whether it names one party: not a group, nor nobody."""
    if not name.startswith(SCHEME):
        return bool(name)
    return len(name.removeprefix(SCHEME).split("/")) > _DEPTH[Level.SERVICES]


def _shown(whole: Graph) -> _Shown:
    """The graph at the finest level at which it can be looked at."""
    found = _grouped(whole, Level.CLUSTERS)
    for level in (Level.NAMESPACES, Level.SERVICES):
        finer = _grouped(whole, level)
        if len(finer.graph.nodes) > NODES_SHOWN or len(finer.graph.edges) > EDGES_SHOWN:
            break
        found = finer
    return found


def _grouped(whole: Graph, level: Level) -> _Shown:
    parties = Counter(group(node.id, level) for node in whole.nodes)
    pairs = Counter(
        (group(edge.source, level), group(edge.destination, level)) for edge in whole.edges
    )
    if level is Level.SERVICES:
        grants = {(edge.source, edge.destination): edge.grants for edge in whole.edges}
        return _Shown(level, whole, grants, pairs, parties)
    nodes = {group(node.id, level): _as_group(node, level) for node in whole.nodes}
    edges: dict[Pair, list[Edge]] = defaultdict(list)
    for edge in whole.edges:
        edges[group(edge.source, level), group(edge.destination, level)].append(edge)
    # A namespace that calls itself is no arrow: its caption says how many services it holds.
    across = {pair: found for pair, found in edges.items() if pair[0] != pair[1]}
    drawn = Graph(
        tuple(nodes.values()),
        tuple(
            replace(found[0], source=source, destination=destination, grants=(), phase=_NO_PHASE)
            for (source, destination), found in across.items()
        ),
    )
    grants = {pair: _grants(found) for pair, found in across.items()}
    return _Shown(level, drawn, grants, pairs, parties)


def _as_group(node: Node, level: Level) -> Node:
    if node.is_external:
        return node
    # All of a cluster in one band: a band for each namespace would be a long way down.
    name = node.namespace if level is Level.NAMESPACES else node.cluster
    return Node(group(node.id, level), name, node.cluster, "", (), _NO_PHASE, critical=False)


def _grants(edges: list[Edge]) -> Grants:
    """What is granted between two groups, and of it no more than can be read."""
    return tuple(dict.fromkeys(grant for edge in edges for grant in edge.grants))[:RULES_SHOWN]


def _node(node: Node, box: Box, parties: int) -> Json:
    return {
        "id": node.id,
        "name": node.name,
        "cluster": node.cluster,
        "namespace": node.namespace,
        "external": node.is_external,
        "ports": [[port.port, str(port.protocol)] for port in node.ports],
        "phase": None if node.phase is None else str(node.phase),
        "critical": node.critical,
        "parties": parties,
        "box": _corners(box),
    }


def _edges(drawn: Drawing, shown: _Shown) -> Iterator[Json]:
    for line in drawn.lines:
        for edge, path in zip(line.edges, line.paths, strict=True):
            yield {
                "source": edge.source,
                "destination": edge.destination,
                "grants": list(map(list, shown.grants[edge.source, edge.destination])),
                "crosses": edge.crosses,
                "phase": str(edge.phase) if shown.level is Level.SERVICES else None,
                "edges": shown.edges[edge.source, edge.destination],
                "path": rounded(path),
            }


def _arrow(line: Line) -> Json:
    return {"destination": line.bus.destination, "tip": list(line.tip), "label": line.bus.label}


def _corners(box: Box) -> list[float]:
    return [box.left, box.top, box.width, box.height]
