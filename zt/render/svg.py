"""A graph as one self-contained SVG: no script, no font, no address of another server."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from itertools import pairwise

from zt.graph import Graph, Node
from zt.model import Phase
from zt.render.names import short_names
from zt.render.route import Box, Drawing, Line, Point, caption, drawing

_OPEN = (
    '<svg xmlns="http://www.w3.org/2000/svg" class="zt-graph" role="img" '
    'aria-labelledby="zt-graph-title zt-graph-desc" '
    'viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
)
_RADIUS = 5.0
_LEGEND = 30.0
# Each rule names our own root: in a page, a style sheet inside a picture holds for the whole page.
_STYLE = """\
.zt-graph text{font:12px ui-sans-serif,system-ui,"Helvetica Neue",Arial,sans-serif;fill:#0f172a}
.zt-graph .small{font-size:10px;fill:#475569}
.zt-graph .sheet{fill:#fff}
.zt-graph .cluster{fill:#f8fafc;stroke:#94a3b8}
.zt-graph .namespace{fill:#f1f5f9;stroke:#cbd5e1}
.zt-graph .outside{fill:none;stroke:#cbd5e1;stroke-dasharray:2 3}
.zt-graph .node{fill:#fff;stroke:#334155}
.zt-graph .critical{stroke-width:2}
.zt-graph .external{fill:#fef9c3;stroke:#a16207}
.zt-graph .edge path{fill:none;stroke:#475569;stroke-width:1.25}
.zt-graph .edge polygon{fill:#475569}
.zt-graph .edge text{font-size:10px;fill:#334155;stroke:#f8fafc;stroke-width:3px;paint-order:stroke}
.zt-graph .crosses path{stroke:#c2410c}
.zt-graph .crosses polygon{fill:#c2410c}
.zt-graph .crosses text{fill:#9a3412}
.zt-graph .observe path{stroke-dasharray:5 4}
.zt-graph .canary path{stroke-dasharray:12 3}
.zt-graph .edge:hover path{stroke-width:3}"""


def svg(graph: Graph) -> str:
    """Draw a graph: boxes for clusters and namespaces, an arrow with ports for each edge."""
    names = short_names(node.id for node in graph.nodes)
    inked = drawing(graph)
    width, height = max(inked.width, 460.0), inked.height + _LEGEND
    parts = [
        _OPEN.format(width=_number(width), height=_number(height)),
        '<title id="zt-graph-title">Who may call whom</title>',
        f'<desc id="zt-graph-desc">{escape(_description(graph, names))}</desc>',
        f"<style>{_STYLE}</style>",
        f'<rect class="sheet" width="{_number(width)}" height="{_number(height)}"/>',
        *_places(inked),
        *(_line(line, names) for line in inked.lines),
        *(_node(node, box) for node, box in inked.nodes),
        *_legend(inked.height),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _description(graph: Graph, names: dict[str, str]) -> str:
    """The whole picture in words, for who cannot see it."""
    calls = (
        f"{names[edge.source]} may call {names[edge.destination]} on "
        f"{', '.join(map(str, edge.ports))}{_notes(edge.crosses, edge.phase)}."
        for edge in graph.edges
    )
    outside = sum(node.is_external for node in graph.nodes)
    count = f"{len(graph.nodes) - outside} services, {outside} outside, {len(graph.edges)} edges."
    return " ".join([count, *calls])


def _notes(crosses: bool, phase: Phase) -> str:  # noqa: FBT001 - as the edge has it
    notes = ["across clusters"] if crosses else []
    if phase is not Phase.ENFORCE:
        notes.append(str(phase))
    return f" ({', '.join(notes)})" if notes else ""


def _places(inked: Drawing) -> Iterator[str]:
    for kind, name, box in inked.places:
        yield f'<rect class="{kind}" rx="6" {_rectangle(box)}/>'
        yield _text(name, box.left + 8, box.top + 15, small=True)


def _line(line: Line, names: dict[str, str]) -> str:
    bus = line.bus
    kinds = ["edge", str(bus.phase)] + (["crosses"] if bus.crosses else [])
    x, y = line.tip
    told = "\n".join(
        f"{names[edge.source]} -> {names[edge.destination]}: "
        + ", ".join(f"{port} by {rule}" for port, rule in edge.grants)
        + _notes(edge.crosses, edge.phase)
        for edge in line.edges
    )
    paths = "".join(f'<path d="{rounded(path)}"/>' for path in line.paths)
    tip = " ".join(_pair(corner) for corner in ((x - 7, y - 3.5), (x, y), (x - 7, y + 3.5)))
    label = (
        f'<text text-anchor="end" x="{_number(x - 9)}" y="{_number(y - 2.5)}">{bus.label}</text>'
    )
    return (
        f'<g class="{" ".join(kinds)}"><title>{escape(told)}</title>'
        f'{paths}<polygon points="{tip}"/>{label}</g>'
    )


def rounded(points: tuple[Point, ...]) -> str:
    """A path along the points, its corners rounded."""
    path = _without_repeats(points)
    steps = [f"M{_pair(path[0])}"]
    for before, corner, after in zip(path, path[1:], path[2:], strict=False):
        steps.append(
            f"L{_pair(_toward(corner, before))}Q{_pair(corner)} {_pair(_toward(corner, after))}"
        )
    return "".join([*steps, f"L{_pair(path[-1])}"])


def _without_repeats(points: tuple[Point, ...]) -> list[Point]:
    return [points[0], *(after for before, after in pairwise(points) if after != before)]


def _toward(corner: Point, other: Point) -> Point:
    """A point near the corner, in the direction of another that is level with it."""
    dx, dy = other[0] - corner[0], other[1] - corner[1]
    length = abs(dx) + abs(dy)
    part = min(_RADIUS, length / 2) / length
    return corner[0] + dx * part, corner[1] + dy * part


def _node(node: Node, box: Box) -> str:
    kinds = "external" if node.is_external else "node" + (" critical" if node.critical else "")
    radius = box.height / 2 if node.is_external else 4
    x, middle = box.left + box.width / 2, box.top + box.height / 2
    told = node.id + (", critical" if node.critical else "")
    below = caption(node)
    return (
        f'<g><title>{escape(told)}</title><rect class="{kinds}" rx="{_number(radius)}" '
        f"{_rectangle(box)}/>"
        + _text(node.name, x, middle + (-2 if below else 4), anchor="middle")
        + (_text(below, x, middle + 12, anchor="middle", small=True) if below else "")
        + "</g>"
    )


def _legend(top: float) -> Iterator[str]:
    x = 16.0
    for kinds, text in (
        ("edge", "enforced"),
        ("edge canary", "canary"),
        ("edge observe", "observed, not refused"),
        ("edge crosses", "across clusters"),
    ):
        y = top + 8
        yield f'<g class="{kinds}"><path d="M{_pair((x, y))}L{_pair((x + 34, y))}"/></g>'
        yield _text(text, x + 40, y + 3.5, small=True)
        x += 52 + 5.5 * len(text)


def _text(text: str, x: float, y: float, *, anchor: str = "start", small: bool = False) -> str:
    kind = ' class="small"' if small else ""
    at = f'text-anchor="{anchor}" x="{_number(x)}" y="{_number(y)}"'
    return f"<text{kind} {at}>{escape(text)}</text>"


def _rectangle(box: Box) -> str:
    return (
        f'x="{_number(box.left)}" y="{_number(box.top)}" '
        f'width="{_number(box.width)}" height="{_number(box.height)}"'
    )


def _pair(point: Point) -> str:
    return f"{_number(point[0])} {_number(point[1])}"


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
