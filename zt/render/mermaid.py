"""A graph as a Mermaid flowchart, which GitHub and GitLab draw in Markdown."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from zt.graph import Edge, Graph, Node
from zt.model import Phase

_CROSSING = "stroke:#c2410c"


def mermaid(graph: Graph) -> str:
    """Draw a graph; dotted lines are observed, coloured ones cross clusters."""
    keys = {node.id: f"n{number}" for number, node in enumerate(graph.nodes)}
    lines = ["flowchart LR", *_places(graph, keys)]
    lines += [_edge(edge, keys) for edge in graph.edges]
    crossing = [str(number) for number, edge in enumerate(graph.edges) if edge.crosses]
    if crossing:
        lines.append(f"  linkStyle {','.join(crossing)} {_CROSSING}")
    return "\n".join(lines) + "\n"


def _places(graph: Graph, keys: dict[str, str]) -> Iterator[str]:
    """A subgraph for each cluster, and in it for each namespace."""
    places: dict[str, dict[str, list[Node]]] = defaultdict(lambda: defaultdict(list))
    for node in graph.nodes:
        if node.is_external:
            yield f'  {keys[node.id]}(["{node.name}"])'
        else:
            places[node.cluster][node.namespace].append(node)
    for number, (cluster, namespaces) in enumerate(places.items()):
        yield f'  subgraph c{number}["{cluster}"]'
        for inner, (namespace, nodes) in enumerate(namespaces.items()):
            yield f'    subgraph c{number}_{inner}["{namespace}"]'
            yield from (f'      {keys[node.id]}["{node.name}"]' for node in nodes)
            yield "    end"
        yield "  end"


def _edge(edge: Edge, keys: dict[str, str]) -> str:
    arrow = "-.->" if edge.phase is Phase.OBSERVE else "-->"
    ports = ", ".join(map(str, edge.ports))
    return f'  {keys[edge.source]} {arrow}|"{ports}"| {keys[edge.destination]}'
