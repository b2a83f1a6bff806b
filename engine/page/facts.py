"""What is known of each node and edge of the picture: the targets of its links."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import urlencode

from engine.page.graph import is_party
from engine.page.html import Html, element, together
from engine.page.names import KINDS, NOBODY, Names, listed, moment, plural, told
from engine.page.picture import Picture
from engine.page.seen import Declared, Kind, Stray, Traffic, View

Json = dict[str, Any]

_COLUMNS = ("Port", "Rule", "Allowed", "Would be refused", "Refused", "Last seen")


def facts(drawn: Picture, view: View, names: Names) -> Iterator[Html]:
    """A section for each node and each edge, all of them hidden until one is asked for."""
    links = _links(view, names)
    for party, index in drawn.nodes.items():
        known = drawn.known[index] if index < len(drawn.known) else None
        yield _section(f"node-{index}", names.of(party), *_node(party, known, links[party]))
    for index, edge in enumerate(view.declared):
        yield _section(f"edge-{index}", _title(edge, names), *_declared(edge))
    for index, stray in enumerate(view.strays):
        yield _section(f"stray-{index}", _title(stray, names), *_stray(stray))


def edge_link(edge: Declared | Stray, index: int, text: str) -> Html:
    """A link to an edge's facts."""
    name = "stray" if isinstance(edge, Stray) else "edge"
    return element("a", _mark(edge.kind), text, href=f"#{name}-{index}")


def _mark(kind: Kind) -> Html:
    return element("span", class_=f"mark {kind}", role="img", aria_label=KINDS[kind])


def _section(identifier: str, title: str, *content: Html | None) -> Html:
    close = element("a", "Close", href="#picture", class_="close")
    heading = element("h3", title)
    return element("section", close, heading, *content, id=identifier, class_="fact", tabindex="-1")


# --- Edges ----------------------------------------------------------------------------------------


def _title(edge: Declared | Stray, names: Names) -> str:
    return f"{names.of(edge.source)} → {names.of(edge.destination)}"


def _declared(edge: Declared) -> Iterator[Html]:
    notes = [
        KINDS[edge.kind],
        *([edge.phase] if edge.phase else []),
        *(["across clusters"] if edge.crosses else []),
        *([plural(edge.edges, "edge")] if edge.edges > 1 else []),
    ]
    yield element("p", _mark(edge.kind), " · ".join(notes), class_="kind")
    yield _ends(edge)
    rows = [(port, rule, edge.by_port.get(port, Traffic())) for port, rule in edge.rules]
    listed = {port for port, _ in edge.rules}
    rows += [(port, "", seen) for port, seen in sorted(edge.by_port.items()) if port not in listed]
    yield _table(edge, rows)


def _stray(stray: Stray) -> Iterator[Html]:
    yield element("p", _mark(stray.kind), KINDS[stray.kind], class_="kind")
    yield _ends(stray)
    yield _table(stray, [(port, "no rule", seen) for port, seen in sorted(stray.by_port.items())])


def _ends(edge: Declared | Stray) -> Html:
    return element(
        "dl",
        element("dt", "Source"),
        element("dd", element("code", edge.source or NOBODY)),
        element("dt", "Destination"),
        element("dd", element("code", edge.destination)),
    )


def _table(edge: Declared | Stray, rows: Iterable[tuple[int, str, Traffic]]) -> Html:
    head = element("tr", *(element("th", name, scope="col") for name in (*_COLUMNS, "Why")))
    return element(
        "div",
        element(
            "table",
            element("thead", head),
            element("tbody", *(_row(edge, *row) for row in rows)),
        ),
        class_="scroll",
    )


def _row(edge: Declared | Stray, port: int, rule: str, seen: Traffic) -> Html:
    asked = urlencode({"source": edge.source, "destination": edge.destination, "port": str(port)})
    why = element("a", "Explain", href=f"v1/explain?{asked}", class_="why")
    is_askable = is_party(edge.source) and is_party(edge.destination)
    return element(
        "tr",
        element("td", str(port)),
        element("td", element("code", rule) if rule else "—"),
        *(
            element("td", f"{count:,}", class_="count")
            for count in (seen.allowed - seen.would_deny, seen.would_deny, seen.denied)
        ),
        element("td", moment(seen.last_seen)),
        element("td", why if is_askable else None),
    )


# --- Nodes ----------------------------------------------------------------------------------------


def _links(view: View, names: Names) -> defaultdict[str, tuple[list[Html], list[Html]]]:
    """For each party: links to the edges that come in, and to those that go out."""
    found: defaultdict[str, tuple[list[Html], list[Html]]] = defaultdict(lambda: ([], []))
    edges: list[tuple[int, Declared | Stray]] = [
        *enumerate(view.strays),
        *enumerate(view.declared),
    ]
    for index, edge in edges:
        ports = sorted({*edge.by_port, *(port for port, _ in getattr(edge, "rules", ()))})
        on = element("small", f" port {listed(ports)} · {told(edge.traffic)}")
        for side, own, other in (
            (0, edge.destination, edge.source),
            (1, edge.source, edge.destination),
        ):
            item = element("li", edge_link(edge, index, names.of(other)), on)
            found[own][side].append(item)
    return found


def _node(party: str, known: Json | None, links: tuple[list[Html], list[Html]]) -> Iterator[Html]:
    yield element("dl", *(_pair(name, value) for name, value in _told(party, known)))
    columns = [
        element("div", element("h4", title), _list(items, empty))
        for title, items, empty in (
            ("Is called by", links[0], "Nobody."),
            ("Calls", links[1], "Nobody."),
        )
    ]
    yield element("div", *columns, class_="columns")


def _list(items: list[Html], empty: str) -> Html:
    return element("ul", *items) if items else element("p", empty, class_="quiet")


def _told(party: str, known: Json | None) -> Iterator[tuple[str, str]]:
    yield "Identity", party or "none was proved"
    if known is None:
        yield "Policy", "not declared: every call from and to it is refused once enforced"
        return
    if known["external"]:
        yield "Place", "outside the mesh"
        return
    yield "Place", " / ".join(part for part in (known["cluster"], known["namespace"]) if part)
    if known["parties"] > 1:
        yield "Stands for", plural(known["parties"], "service")
        return
    ports = ", ".join(f"{port} {protocol}" for port, protocol in known["ports"])
    yield "Listens on", ports or "nothing"
    yield "Phase", known["phase"] + (", critical" if known["critical"] else "")


def _pair(name: str, value: str) -> Html:
    return together([element("dt", name), element("dd", element("code", value))])
