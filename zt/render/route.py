"""The drawing of a graph, as boxes and lines with coordinates in pixels; ``zt.render.svg`` inks it.

Lines run in channels between columns and in tracks between rows, so that none lies under a node. A
``Bus`` gathers the edges that end in the same arrow: same destination, ports, phase and crossing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from zt.graph import Edge, Graph, Node
from zt.model import Phase
from zt.render.layout import Band, Layout, layout

Point = tuple[float, float]

_MARGIN = 16.0
_PITCH = 12.0  # between lines that are parallel
_CHANNEL = 14.0  # beside the lines of a channel
_BORDERS = 12.0  # of the two boxes around a node
_GAP = 14.0  # between rows
_HEADER = 22.0  # name of a box
_NODE_HEIGHT = 40.0
_NODE_WIDTH = 92.0
_CHARACTER = 7.4
_SMALL_CHARACTER = 6.0
_PORTS_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle."""

    left: float
    top: float
    width: float
    height: float

    @property
    def right(self) -> float:
        """Its right side."""
        return self.left + self.width

    @property
    def bottom(self) -> float:
        """Its lower side."""
        return self.top + self.height


@dataclass(frozen=True, slots=True)
class Bus:
    """Edges that end in one arrow."""

    destination: str
    ports: tuple[int, ...]
    crosses: bool
    phase: Phase

    @property
    def label(self) -> str:
        """Its ports, cut short where they are many."""
        shown = ", ".join(map(str, self.ports[:_PORTS_SHOWN]))
        more = len(self.ports) - _PORTS_SHOWN
        return f"{shown} +{more}" if more > 0 else shown


@dataclass(frozen=True, slots=True)
class Line:
    """A bus as it is drawn: a path back from the arrow to each source, and where its tip is."""

    bus: Bus
    edges: tuple[Edge, ...]
    paths: tuple[tuple[Point, ...], ...]
    tip: Point


@dataclass(frozen=True, slots=True)
class Drawing:
    """Everything to draw, back to front; ``places`` are (kind, name, box), the outer ones first."""

    width: float
    height: float
    places: tuple[tuple[str, str, Box], ...]
    lines: tuple[Line, ...]
    nodes: tuple[tuple[Node, Box], ...]


def drawing(graph: Graph) -> Drawing:
    """Lay out a graph and route its edges."""
    plan = _Plan(graph)
    return Drawing(
        plan.width,
        plan.height,
        tuple(_places(plan)),
        tuple(_line(plan, bus, edges) for bus, edges in plan.buses.items()),
        tuple((node, plan.boxes[node.id]) for node in graph.nodes),
    )


class _Plan:
    """All coordinates of a drawing, worked out once: across, then down."""

    def __init__(self, graph: Graph) -> None:
        self.layout = layout(graph)
        self.cells = _cells(self.layout)
        self.buses = _buses(graph, self.cells)
        self.entries: dict[str, list[Bus]] = defaultdict(list)
        self.exits: dict[str, list[Bus]] = defaultdict(list)
        for bus, edges in self.buses.items():
            self.entries[bus.destination].append(bus)
            for edge in edges:
                self.exits[edge.source].append(bus)
        self.slots: dict[tuple[int, Bus], float] = {}
        self.columns: list[tuple[float, float]] = []
        self.width = self._across()
        self.tracks: dict[Bus, float] = {}
        self.boxes: dict[str, Box] = {}
        self.bands: dict[tuple[str, str], Box] = {}
        self.height = self._down()

    def column(self, node: str) -> int:
        return self.cells[node][1]

    def _across(self) -> float:
        """Columns and the channels before each: their lines, then the labels of their arrows."""
        channels: dict[int, list[Bus]] = defaultdict(list)
        for bus, edges in self.buses.items():
            entered = self.column(bus.destination)
            left = {self.column(edge.source) + 1 for edge in edges}
            for channel in sorted({entered, *left}):
                channels[channel].append(bus)
        widths = self._widths()
        at = _MARGIN
        for number in range(self.layout.columns + 1):
            at += _CHANNEL + _BORDERS if channels[number] or number else 0
            for bus in channels[number]:
                self.slots[number, bus] = at
                at += _PITCH
            if number < self.layout.columns:
                at += self._label_width(number) + _CHANNEL
                self.columns.append((at, widths[number]))
                at += widths[number]
        return at + _MARGIN + _CHANNEL + _BORDERS

    def _widths(self) -> dict[int, float]:
        widths: dict[int, float] = defaultdict(lambda: _NODE_WIDTH)
        for band in self.layout.bands:
            for (column, _), node in band.cells.items():
                text = max(_CHARACTER * len(node.name), _SMALL_CHARACTER * len(caption(node)))
                widths[column] = max(widths[column], 20 + text)
        return widths

    def _label_width(self, column: int) -> float:
        labels = [bus.label for bus in self.buses if self.column(bus.destination) == column]
        return _SMALL_CHARACTER * max(map(len, labels), default=0)

    def _down(self) -> float:
        """Bands from the top; each row has the tracks of its arrows above it."""
        at = _MARGIN
        cluster = None
        for band in self.layout.bands:
            at += _GAP if cluster is not None else 0
            if band.cluster != cluster:
                at += _HEADER if band.cluster else 0
                cluster = band.cluster
            top = at
            at += _HEADER
            for row in range(band.rows):
                at = self._row(band, row, at)
            at += _GAP
            first, last = band.columns
            left = self.columns[first][0] - _CHANNEL
            right = sum(self.columns[last]) + _CHANNEL
            self.bands[band.cluster, band.namespace] = Box(left, top, right - left, at - top)
            at += _GAP / 2
        return at + _MARGIN

    def _row(self, band: Band, row: int, at: float) -> float:
        nodes = [(column, node) for (column, r), node in band.cells.items() if r == row]
        for _, node in nodes:
            for bus in self.entries[node.id]:
                if any(self._is_far(edge) for edge in self.buses[bus]):
                    at += _PITCH / 2
                    self.tracks[bus] = at
        at += _GAP
        height = max(self._node_height(node.id) for _, node in nodes)
        for column, node in nodes:
            left, width = self.columns[column]
            own = self._node_height(node.id)
            self.boxes[node.id] = Box(left, at + (height - own) / 2, width, own)
        return at + height

    def _is_far(self, edge: Edge) -> bool:
        return self.column(edge.source) + 1 != self.column(edge.destination)

    def _node_height(self, node: str) -> float:
        lines = max(len(self.entries[node]), len(self.exits[node]))
        return max(_NODE_HEIGHT, _PITCH * (lines + 1))


def caption(node: Node) -> str:
    """The second line of a node: what it speaks, and how far it is enforced."""
    if node.is_external:
        return ""
    spoken = " ".join(dict.fromkeys(str(port.protocol) for port in node.ports))
    return " · ".join(part for part in (spoken, str(node.phase)) if part)


def _cells(plan: Layout) -> dict[str, tuple[int, int, int]]:
    """Band, column and row of each node."""
    return {
        node.id: (number, column, row)
        for number, band in enumerate(plan.bands)
        for (column, row), node in band.cells.items()
    }


def _buses(graph: Graph, cells: Mapping[str, tuple[int, int, int]]) -> dict[Bus, tuple[Edge, ...]]:
    found: dict[Bus, list[Edge]] = defaultdict(list)
    for edge in graph.edges:
        found[Bus(edge.destination, edge.ports, edge.crosses, edge.phase)].append(edge)

    def order(item: tuple[Bus, list[Edge]]) -> tuple[object, ...]:
        bus, edges = item
        return cells[bus.destination], min(cells[edge.source] for edge in edges), bus.ports

    return {bus: tuple(edges) for bus, edges in sorted(found.items(), key=order)}


def _places(plan: _Plan) -> Iterator[tuple[str, str, Box]]:
    """A box for each cluster around those of its namespaces."""
    clusters: dict[str, list[Box]] = defaultdict(list)
    for (cluster, _), box in plan.bands.items():
        clusters[cluster].append(box)
    for cluster, boxes in clusters.items():
        if cluster:
            yield "cluster", cluster, _around(boxes)
    for (cluster, namespace), box in plan.bands.items():
        yield ("namespace", namespace, box) if cluster else ("outside", "outside the mesh", box)


def _around(boxes: Iterable[Box]) -> Box:
    inner = list(boxes)
    left = min(box.left for box in inner) - _GAP / 2
    top = min(box.top for box in inner) - _HEADER
    right = max(box.right for box in inner) + _GAP / 2
    bottom = max(box.bottom for box in inner) + _GAP / 2
    return Box(left, top, right - left, bottom - top)


def _line(plan: _Plan, bus: Bus, edges: tuple[Edge, ...]) -> Line:
    box = plan.boxes[bus.destination]
    tip = box.left, _height(box, plan.entries[bus.destination], bus) - _PITCH / 2
    return Line(bus, edges, tuple(_path(plan, bus, edge, tip) for edge in edges), tip)


def _path(plan: _Plan, bus: Bus, edge: Edge, tip: Point) -> tuple[Point, ...]:
    """From the arrow's tip back to the source, so that paths of a bus begin alike."""
    source = plan.boxes[edge.source]
    leaves = _height(source, plan.exits[edge.source], bus)
    enters = plan.slots[plan.column(edge.destination), bus]
    exit_slot = plan.slots[plan.column(edge.source) + 1, bus]
    start, end = [tip, (enters, tip[1])], [(exit_slot, leaves), (source.right, leaves)]
    if enters == exit_slot:
        return (*start, *end)
    track = plan.tracks[bus]
    return (*start, (enters, track), (exit_slot, track), *end)


def _height(box: Box, buses: list[Bus], bus: Bus) -> float:
    """Where a bus meets a side of a box: arrows come in half a pitch above where lines go out."""
    place = buses.index(bus) - (len(buses) - 1) // 2
    return box.top + box.height / 2 + place * _PITCH
