"""A graph in Graphviz's language."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from zt.graph import Edge, Graph, Node
from zt.model import Phase

_STYLES = {Phase.OBSERVE: "dashed", Phase.CANARY: "dotted", Phase.ENFORCE: "solid"}


def dot(graph: Graph) -> str:
    """Draw a graph; dashed lines are observed, dotted ones canary, coloured ones cross clusters."""
    lines = [
        "digraph zt {",
        "  rankdir=LR; compound=true;",
        '  node [shape=box, style=rounded, fontname="sans-serif"];',
        '  edge [fontname="sans-serif", fontsize=10];',
        *_places(graph),
        *(_edge(edge) for edge in graph.edges),
        "}",
    ]
    return "\n".join(lines) + "\n"


def _places(graph: Graph) -> Iterator[str]:
    places: dict[str, dict[str, list[Node]]] = defaultdict(lambda: defaultdict(list))
    for node in graph.nodes:
        if node.is_external:
            yield f'  "{node.id}" [label="{node.name}", shape=ellipse];'
        else:
            places[node.cluster][node.namespace].append(node)
    for cluster, namespaces in places.items():
        yield f'  subgraph "cluster {cluster}" {{'
        yield f'    label="{cluster}";'
        for namespace, nodes in namespaces.items():
            yield f'    subgraph "cluster {cluster}/{namespace}" {{'
            yield f'      label="{namespace}";'
            yield from (f'      "{node.id}" [label="{node.name}"];' for node in nodes)
            yield "    }"
        yield "  }"


def _edge(edge: Edge) -> str:
    colour = ', color="#c2410c"' if edge.crosses else ""
    ports = ", ".join(map(str, edge.ports))
    rules = "\\n".join(edge.rules)
    return (
        f'  "{edge.source}" -> "{edge.destination}" '
        f'[label="{ports}", tooltip="{rules}", style={_STYLES[edge.phase]}{colour}];'
    )
