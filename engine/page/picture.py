"""The service graph as SVG: what is declared in its columns, what strays from it drawn on top.

Nodes and edges are links to their facts further down the page, so that the keyboard reaches them
and nothing needs a script. Kinds of edges differ by line, shape and word, not by colour alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.page.html import Html, element, number, together
from engine.page.names import KINDS, Names, listed, plural, told
from engine.page.seen import Declared, Kind, Stray, View, undeclared_nodes

Json = dict[str, Any]
Box = Sequence[float]
Point = tuple[float, float]

UNDECLARED_DRAWN = 40
_MARGIN, _GAP, _HEADER = 16.0, 14.0, 24.0
_HEIGHT, _CHARACTER, _NARROWEST, _WIDEST = 40.0, 7.2, 96.0, 260.0
_LEAST_WIDTH = 640.0
# A wide one is shown smaller where the window is, but not so small that nobody can read it.
_WIDE, _VAST = 1240.0, 2000.0
_SPREAD = 9.0
_FAR, _LIFT = 30.0, 24.0
_GLYPHS = {Kind.REFUSED: "✕", Kind.UNDECLARED: "?"}


@dataclass(frozen=True, slots=True)
class Picture:
    """Everything to draw. ``boxes`` are those of all nodes, ``places`` of what lies behind them.

    A node's number is its place in ``nodes``; ``known`` of them are declared.
    """

    width: float
    height: float
    nodes: Mapping[str, int]
    known: Sequence[Json]
    boxes: Mapping[str, Box]
    places: Sequence[tuple[str, str, Box]]
    left_out: int


def picture(graph: Json, view: View, names: Names) -> Picture:
    """Add to a declared graph the parties that the policy does not know."""
    known = graph["nodes"]
    strangers = undeclared_nodes(known, view.strays)
    shown = strangers[:UNDECLARED_DRAWN]
    width = max(graph["width"], _LEAST_WIDTH)
    boxes: dict[str, Box] = {node["id"]: node["box"] for node in known}
    places = [(kind, name, box) for kind, name, box in graph["places"]]
    height = graph["height"]
    if shown:
        added = _rows(shown, names, width, height + _HEADER + _GAP)
        bottom = max(box[1] + box[3] for box in added.values()) + _GAP
        band = (_MARGIN, height, width - 2 * _MARGIN, bottom - height)
        places.append(("undeclared", "not declared by the policy", band))
        boxes |= added
        height = bottom + _MARGIN
    return Picture(
        width=width,
        height=height,
        nodes={party: index for index, party in enumerate(boxes)},
        known=known,
        boxes=boxes,
        places=places,
        left_out=len(strangers) - len(shown),
    )


def svg(drawn: Picture, view: View, arrows: Iterable[Json], names: Names) -> Html:
    """The picture. Lines first and nodes over them; strays last, because they matter most."""
    strays = [item for item in enumerate(view.strays) if _is_drawn(drawn, item[1])]
    return element(
        "svg",
        element("title", "Who calls whom", id="graph-title"),
        *(_place(*place) for place in drawn.places),
        element("g", *_lines(drawn, view.declared, names)),
        element("g", *(_arrow(arrow) for arrow in arrows), class_="arrows"),
        element("g", *_nodes(drawn, names)),
        element("g", *_strays(drawn, strays, names)),
        id="graph",
        class_=f"graph {_size(drawn.width)}",
        role="group",
        aria_labelledby="graph-title",
        viewBox=f"0 0 {number(drawn.width)} {number(drawn.height)}",
        width=drawn.width,
        height=drawn.height,
    )


def _size(width: float) -> str:
    if width > _VAST:
        return "vast"
    return "wide" if width > _WIDE else "whole"


def _rows(parties: Iterable[str], names: Names, width: float, top: float) -> dict[str, Box]:
    """Boxes from left to right, and then in the next row."""
    boxes: dict[str, Box] = {}
    left = 2 * _MARGIN
    for party in parties:
        own = min(max(24 + _CHARACTER * len(names.of(party)), _NARROWEST), _WIDEST)
        if left + own > width - 2 * _MARGIN and left > 2 * _MARGIN:
            left, top = 2 * _MARGIN, top + _HEIGHT + _GAP
        boxes[party] = (left, top, own, _HEIGHT)
        left += own + 2 * _GAP
    return boxes


def _place(kind: str, name: str, box: Box) -> Html:
    title = element("text", name, class_="small", x=box[0] + 8, y=box[1] + 15)
    return together([_rectangle(box, kind, 6), title])


def _rectangle(box: Box, kind: str, radius: float) -> Html:
    left, top, width, height = box
    return element("rect", class_=kind, rx=radius, x=left, y=top, width=width, height=height)


# --- Edges that are declared ----------------------------------------------------------------------


def _lines(drawn: Picture, edges: Iterable[Declared], names: Names) -> Iterator[Html]:
    for index, edge in enumerate(edges):
        # Not in the tab order: arrow keys lead to them from a node, and links from its facts.
        yield _link(
            drawn,
            edge,
            f"edge-{index}",
            element("path", d=edge.path, class_="hit"),
            element("path", d=edge.path, class_="line"),
            label=f"{_pair(edge, names)}: {KINDS[edge.kind]}, {told(edge.traffic)}",
            kinds=["edge", edge.kind, *(["crosses"] if edge.crosses else [])],
            tabbed=False,
        )


def _link(  # noqa: PLR0913 - what differs between edges
    drawn: Picture,
    edge: Declared | Stray,
    fact: str,
    *content: Html,
    label: str,
    kinds: Iterable[str],
    tabbed: bool,
) -> Html:
    return element(
        "a",
        element("title", label),
        *content,
        class_=" ".join(kinds),
        href=f"#{fact}",
        aria_label=label,
        tabindex=None if tabbed else "-1",
        data_source=str(drawn.nodes[edge.source]),
        data_destination=str(drawn.nodes[edge.destination]),
    )


def _pair(edge: Declared | Stray, names: Names) -> str:
    ports = sorted({*edge.by_port, *(port for port, _ in getattr(edge, "rules", ()))})
    return f"{names.of(edge.source)} to {names.of(edge.destination)}, port {listed(ports)}"


def _arrow(arrow: Json) -> Html:
    x, y = arrow["tip"]
    corners = ((x - 7, y - 3.5), (x, y), (x - 7, y + 3.5))
    label = element("text", arrow["label"], text_anchor="end", x=x - 9, y=y - 2.5, class_="small")
    return together([element("polygon", points=" ".join(map(_point, corners))), label])


# --- Nodes ----------------------------------------------------------------------------------------


def _nodes(drawn: Picture, names: Names) -> Iterator[Html]:
    for node in drawn.known:
        kind = "external" if node["external"] else node["phase"]
        kinds = ["node", kind, *(["critical"] if node["critical"] else [])]
        caption = _caption(node)
        yield _node(drawn, node["id"], node["name"], caption, kinds)
    for party in list(drawn.nodes)[len(drawn.known) :]:
        yield _node(drawn, party, names.of(party), "not declared", ["node", "stranger"])


def _node(drawn: Picture, party: str, name: str, caption: str, kinds: Sequence[str]) -> Html:
    box = drawn.boxes[party]
    middle, height = box[0] + box[2] / 2, box[1] + box[3] / 2
    below = caption and element("text", caption, class_="small", x=middle, y=height + 12)
    index = drawn.nodes[party]
    return element(
        "a",
        element("title", party or "a peer that proved no identity"),
        _rectangle(box, "shape", box[3] / 2 if "external" in kinds else 5),
        element("text", name, x=middle, y=height - 2 if caption else height + 4),
        below or None,
        class_=" ".join(kinds),
        href=f"#node-{index}",
        aria_label=f"{name}, {caption}" if caption else name,
        data_node=str(index),
    )


def _caption(node: Json) -> str:
    if node["external"]:
        return "outside"
    if node["parties"] > 1:
        return plural(node["parties"], "service")
    spoken = " ".join(dict.fromkeys(protocol for _, protocol in node["ports"]))
    return f"{spoken} · {node['phase']}" if spoken else node["phase"]


# --- Edges that the policy does not grant ---------------------------------------------------------


def _is_drawn(drawn: Picture, stray: Stray) -> bool:
    ends = {stray.source, stray.destination}
    return len(ends) == 2 and ends <= drawn.boxes.keys()  # noqa: PLR2004 - two ends


def _strays(drawn: Picture, strays: Iterable[tuple[int, Stray]], names: Names) -> Iterator[Html]:
    met: dict[str, int] = {}
    for index, stray in strays:
        place = met[stray.destination] = met.get(stray.destination, -1) + 1
        offset = ((place + 1) // 2) * (_SPREAD if place % 2 else -_SPREAD)
        path, tip, (x, y) = _curve(
            drawn.boxes[stray.source], drawn.boxes[stray.destination], offset
        )
        sign = [
            element("polygon", points=tip),
            element("circle", cx=x, cy=y, r=8),
            element("text", _GLYPHS[stray.kind], x=x, y=y + 4, class_="glyph"),
        ]
        yield _link(
            drawn,
            stray,
            f"stray-{index}",
            element("path", d=path, class_="hit"),
            element("path", d=path, class_="line"),
            *sign,
            element("text", listed(sorted(stray.by_port)), x=x + 12, y=y + 4, class_="port"),
            label=f"{_pair(stray, names)}: {KINDS[stray.kind]}, {told(stray.traffic)}",
            kinds=["edge", "stray", stray.kind],
            tabbed=True,
        )


def _curve(source: Box, destination: Box, offset: float) -> tuple[str, str, Point]:
    """A curve between the sides of two boxes that face each other: its tip, and its middle."""
    start, leave, enter, end = _sides(source, destination, offset)
    path = f"M{_point(start)}C{_point(leave)} {_point(enter)} {_point(end)}"
    x, y = (
        (a + 3 * b + 3 * c + d) / 8 for a, b, c, d in zip(start, leave, enter, end, strict=True)
    )
    return path, _tip(enter, end), (x, y)


def _tip(before: Point, end: Point) -> str:
    """The corners of an arrow that comes from one point and ends in another."""
    dx, dy = end[0] - before[0], end[1] - before[1]
    length = math.hypot(dx, dy) or 1.0
    dx, dy = dx / length, dy / length
    sides = ((end[0] - 9 * dx - 4 * side * dy, end[1] - 9 * dy + 4 * side * dx) for side in (1, -1))
    return " ".join(map(_point, (end, *sides)))


def _sides(source: Box, destination: Box, offset: float) -> tuple[Point, Point, Point, Point]:
    """Start, the two points that bend the curve, and end; between columns it is bent upwards.

    Lines that are declared have corners: that these have none tells them apart as well.
    """
    (left, top, width, height), (x, y, wide, high) = source, destination
    if max(y - (top + height), top - (y + high)) > _FAR:
        down = y > top
        start = left + width / 2 + offset, top + (height if down else 0)
        end = x + wide / 2 + offset, y + (0 if down else high)
        bend = (end[1] - start[1]) / 2
        # In one column it goes around what stands between.
        side = width if abs(end[0] - start[0]) < width / 2 else 0
        return start, (start[0] + side, start[1] + bend), (end[0] + side, end[1] - bend), end
    forward = x > left
    start = (left + width if forward else left), top + height / 2 + offset / 3
    end = (x if forward else x + wide), y + high / 2 + offset
    bend = (end[0] - start[0]) / 4
    lift = _LIFT + abs(bend) / 2
    return start, (start[0] + bend, start[1] - lift), (end[0] - bend, end[1] - lift), end


def _point(point: Point) -> str:
    return f"{number(point[0])} {number(point[1])}"
