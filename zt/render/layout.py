"""Where the nodes of a graph stand: callers left, what they call right, one band for each place.

A cell is a column and a row of a band. The same graph always gets the same layout.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from zt.graph import Graph, Node

_SWEEPS = 4


@dataclass(frozen=True, slots=True)
class Band:
    """A namespace of a cluster, or all that is external (``""`` twice), and its cells."""

    cluster: str
    namespace: str
    cells: Mapping[tuple[int, int], Node]

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return 1 + max(row for _, row in self.cells)

    @property
    def columns(self) -> tuple[int, int]:
        """Its first and its last column."""
        columns = [column for column, _ in self.cells]
        return min(columns), max(columns)


@dataclass(frozen=True, slots=True)
class Layout:
    """Bands from top to bottom; those of a cluster are next to each other."""

    bands: tuple[Band, ...]
    columns: int


def layout(graph: Graph) -> Layout:
    """Place every node of a graph."""
    columns = _columns(graph)
    neighbours = _neighbours(graph)
    stacks: dict[tuple[str, str], dict[int, list[Node]]] = defaultdict(lambda: defaultdict(list))
    for node in graph.nodes:
        stacks[node.cluster, node.namespace][columns[node.id]].append(node)
    for _ in range(_SWEEPS):
        _sweep(stacks, neighbours)
    bands = tuple(
        Band(*place, {(column, row): node for column, row, node in _cells(stacks[place])})
        for place in sorted(stacks)
    )
    return Layout(bands, 1 + max(columns.values(), default=-1))


def _cells(stack: Mapping[int, list[Node]]) -> Iterator[tuple[int, int, Node]]:
    return (
        (column, row, node) for column in sorted(stack) for row, node in enumerate(stack[column])
    )


def _sweep(
    stacks: Mapping[tuple[str, str], dict[int, list[Node]]], neighbours: Mapping[str, list[str]]
) -> None:
    """Order each stack by the mean height of its nodes' neighbours, so that fewer lines cross."""
    heights = _heights(stacks)
    for stack in stacks.values():
        for nodes in stack.values():
            nodes.sort(key=lambda node: (_mean(node.id, neighbours, heights), node.id))


def _heights(stacks: Mapping[tuple[str, str], dict[int, list[Node]]]) -> dict[str, float]:
    heights: dict[str, float] = {}
    top = 0.0
    for place in sorted(stacks):
        rows = max(len(nodes) for nodes in stacks[place].values())
        for nodes in stacks[place].values():
            heights |= {node.id: top + row for row, node in enumerate(nodes)}
        top += rows
    return heights


def _mean(node: str, neighbours: Mapping[str, list[str]], heights: Mapping[str, float]) -> float:
    found = neighbours.get(node)
    if not found:
        return heights[node]
    return sum(heights[other] for other in found) / len(found)


def _neighbours(graph: Graph) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for edge in graph.edges:
        found[edge.source].append(edge.destination)
        found[edge.destination].append(edge.source)
    return found


def _columns(graph: Graph) -> dict[str, int]:
    """Callers first, then as far right as the longest chain of calls; outsiders at the edges."""
    external = {node.id for node in graph.nodes if node.is_external}
    calling = {edge.source for edge in graph.edges if edge.source in external}
    first = 1 if calling else 0
    services = [node.id for node in graph.nodes if node.id not in external]
    calls: dict[str, list[str]] = {service: [] for service in services}
    for edge in graph.edges:
        if edge.source in calls and edge.destination in calls:
            calls[edge.source].append(edge.destination)
    columns = _longest_chains(calls, first)
    last = 1 + max(columns.values(), default=first)
    return columns | {name: 0 if name in calling else last for name in sorted(external)}


def _longest_chains(calls: Mapping[str, list[str]], first: int) -> dict[str, int]:
    """The longest chain of calls that leads to each service, with cycles cut."""
    order, forward = _without_cycles(calls)
    columns = dict.fromkeys(calls, first)
    for caller in order:
        for called in forward[caller]:
            columns[called] = max(columns[called], columns[caller] + 1)
    entered = {called for found in forward.values() for called in found}
    for caller in order:
        # Nobody calls it: next to what it calls, its lines are shortest.
        if caller not in entered and forward[caller]:
            columns[caller] = min(columns[called] for called in forward[caller]) - 1
    return columns


def _without_cycles(calls: Mapping[str, list[str]]) -> tuple[list[str], dict[str, list[str]]]:
    """Services in topological order, and their calls without those that lead back."""
    forward: dict[str, list[str]] = {service: [] for service in calls}
    done: list[str] = []
    seen: set[str] = set()
    called = {name for found in calls.values() for name in found}
    for root in sorted(calls, key=lambda service: (service in called, service)):
        path: dict[str, Iterator[str]] = {}
        _enter(root, calls, path, seen)
        while path:
            service = next(reversed(path))
            callee = next(path[service], None)
            if callee is None:
                del path[service]
                done.append(service)
            elif callee not in path:
                forward[service].append(callee)
                _enter(callee, calls, path, seen)
    return done[::-1], forward


def _enter(
    service: str,
    calls: Mapping[str, list[str]],
    path: dict[str, Iterator[str]],
    seen: set[str],
) -> None:
    if service not in seen:
        seen.add(service)
        path[service] = iter(sorted(calls[service]))
