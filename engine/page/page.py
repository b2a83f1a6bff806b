"""The page at ``/``: the policy in force, who calls whom, the latest decisions, and why.

Made on the server; the script on it only saves journeys. ``engine.page.assets`` has what goes with
it: its headers, and the files that it asks for under ``assets/``. The script reads ``v1/audit`` and
``v1/explain`` beside the page.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson

from engine.audit.reader import Edge
from engine.page.assets import address
from engine.page.facts import edge_link, facts
from engine.page.html import Html, element
from engine.page.names import KINDS, Names, listed, names, plural, told
from engine.page.picture import Picture, picture, svg
from engine.page.seen import Declared, Kind, Stray, View, view
from engine.policy.status import GRAPH
from engine.policy.table import Snapshot

Json = dict[str, Any]

_LISTED = 12
_RECENT = ("Time (UTC)", "Decision", "Source", "Destination", "Port", "Rule", "Reason", "µs", "Why")


@dataclass(frozen=True, slots=True)
class Parts:
    """All that the page shows.

    ``edges`` are those of the last 24 hours, ``None`` where the trail can't be read; ``problems``
    are sentences about a change that was left out.
    """

    snapshot: Snapshot
    edges: Sequence[Edge] | None
    problems: Sequence[str] = ()
    audit_available: bool = True


def page(parts: Parts) -> str:
    """The page as HTML, to be sent with ``engine.page.assets.HEADERS``.

    Takes milliseconds: not for an event loop that has decisions to make.
    """
    folder = parts.snapshot.folder
    graph = None if folder is None else _graph(folder)
    content = _without_graph(parts) if graph is None else _with_graph(parts, graph)
    body = element("body", _header(parts), element("main", *content))
    return f"<!doctype html>\n{element('html', _head(), body, lang='en')}\n"


@lru_cache(maxsize=2)
def _graph(folder: Path) -> Json | None:
    """What the builder drew; a policy that came as a table alone has no graph."""
    try:
        content = (folder / GRAPH).read_bytes()
    except FileNotFoundError:
        return None
    found: Json = orjson.loads(content)
    return found


def _head() -> Html:
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", "Hanzo ZT"),
        element("link", rel="icon", href=address("icon.svg")),
        element("link", rel="stylesheet", href=address("page.css")),
        element("script", src=address("page.js"), defer=True),
    )


def _header(parts: Parts) -> Html:
    snapshot = parts.snapshot
    policy = (
        element("span", "Policy ", element("code", snapshot.revision), class_="state good")
        if snapshot.loaded
        else element("span", "No policy: everything is refused", class_="state bad")
    )
    trail = (
        element("span", "Recording every decision", class_="state good")
        if parts.audit_available
        else element("span", "Decisions cannot be recorded", class_="state bad")
    )
    problems = plural(len(parts.problems), "problem")
    stale = element("a", problems, href="#problems", class_="state bad")
    return element(
        "header",
        element("h1", "Hanzo ZT ", element("span", "policy engine")),
        element("div", policy, stale if parts.problems else None, trail, class_="states"),
    )


def _without_graph(parts: Parts) -> Iterator[Html]:
    yield from _problems(parts.problems)
    yield element("p", "There is no graph of this policy.", class_="quiet panel")
    yield from _live(())


def _with_graph(parts: Parts, graph: Json) -> Iterator[Html]:
    over = view(graph, parts.snapshot.table, parts.edges or ())
    ends = (end for stray in over.strays for end in (stray.source, stray.destination))
    known = names([*(node["id"] for node in graph["nodes"]), *ends])
    drawn = picture(graph, over, known)
    yield from _problems(parts.problems)
    yield _figures(graph, over)
    yield from _attention(parts, over, known)
    yield _picture(drawn, over, graph, known)
    yield from _live(graph["parties"])


def _problems(problems: Sequence[str]) -> Iterator[Html]:
    if problems:
        yield element(
            "section",
            element("h2", "A change of the policy was left out"),
            element("p", "The last good policy stays in force."),
            element("ul", *(element("li", element("code", problem)) for problem in problems)),
            id="problems",
            class_="panel alarm",
            role="alert",
        )


# --- Figures, and what needs attention ------------------------------------------------------------


def _figures(graph: Json, over: View) -> Html:
    seen = sum(edge.kind is Kind.SEEN for edge in over.declared)
    phases = graph["phases"]
    enforced = ", ".join(
        f"{phases[phase]} {phase}" for phase in ("enforce", "canary", "observe") if phase in phases
    )
    cells = [
        (f"{graph['services']:,}", "services", enforced, ""),
        (f"{graph['edges_in_all']:,}", "granted edges", f"{seen} of {len(over.declared)} seen", ""),
        *(
            (f"{count:,}", words, "in 24 hours", kind if count else "")
            for kind, words, count in (
                (Kind.UNDECLARED, "would be refused", over.found[Kind.UNDECLARED]),
                (Kind.REFUSED, "refused edges", over.found[Kind.REFUSED]),
            )
        ),
    ]
    return element("ul", *(_figure(*cell) for cell in cells), class_="figures")


def _figure(figure: str, words: str, note: str, kind: str) -> Html:
    return element(
        "li",
        element("strong", figure),
        element("span", words),
        element("small", note),
        class_=f"panel {kind}".strip(),
    )


def _attention(parts: Parts, over: View, known: Names) -> Iterator[Html]:
    if parts.edges is None:
        yield element("p", "The audit trail cannot be read now.", class_="panel alarm")
    found: list[tuple[int, Declared | Stray]] = [
        *enumerate(over.strays),
        *((index, edge) for index, edge in enumerate(over.declared) if edge.troubled),
    ]
    if not found:
        return
    items = (_item(index, edge, known) for index, edge in found[:_LISTED])
    more = over.found.total() + len(found) - len(over.strays) - _LISTED
    yield element(
        "section",
        element("h2", "Needs attention"),
        element("ul", *items, class_="attention"),
        element("p", f"And {plural(more, 'more edge')}.", class_="quiet") if more > 0 else None,
        class_="panel",
    )


def _item(index: int, edge: Declared | Stray, known: Names) -> Html:
    ends = f"{known.of(edge.source)} → {known.of(edge.destination)}"
    pair = f"{ends}, port {listed(sorted(edge.by_port))}"
    kind = KINDS[edge.kind] if isinstance(edge, Stray) else "Granted, and refused all the same"
    note = element("small", f"{kind} · {told(edge.traffic)}")
    return element("li", edge_link(edge, index, pair), " ", note)


# --- The graph ------------------------------------------------------------------------------------


def _picture(drawn: Picture, over: View, graph: Json, known: Names) -> Html:
    level = graph["level"]
    title = "Who calls whom" + ("" if level == "services" else f", by {level}")
    left_out = (
        element(
            "p", f"{plural(drawn.left_out, 'undeclared party')} more are not drawn.", class_="quiet"
        )
        if drawn.left_out
        else None
    )
    hint = (
        "Choose a service or a line for its facts. With the keyboard: Tab to a service, "
        "arrow keys along its lines, Enter for the facts, Escape to close them."
    )
    return element(
        "section",
        element("h2", title),
        _legend(),
        element("p", hint, class_="quiet"),
        element(
            "div",
            svg(drawn, over, graph["arrows"], known),
            class_="scroll",
            tabindex="0",
            role="region",
            aria_label="Service graph",
        ),
        left_out,
        element("div", *facts(drawn, over, known), class_="facts", aria_live="polite"),
        id="picture",
        class_="panel",
    )


def _legend() -> Html:
    return element(
        "ul", *(element("li", _sample(kind), KINDS[kind]) for kind in Kind), class_="legend"
    )


def _sample(kind: Kind) -> Html:
    stray = kind in {Kind.UNDECLARED, Kind.REFUSED}
    sign = [
        element("circle", cx=24, cy=9, r=7),
        element("text", "✕" if kind is Kind.REFUSED else "?", x=24, y=13, class_="glyph"),
    ]
    line = element("path", d="M2 9H46", class_="line")
    group = element(
        "g", line, *(sign if stray else []), class_=f"edge {kind}" + (" stray" if stray else "")
    )
    return element("svg", group, class_="graph sample", width=48, height=18, aria_hidden="true")


# --- What the script fills ------------------------------------------------------------------------


def _live(parties: Iterable[str]) -> Iterator[Html]:
    yield element("div", _explain(parties), _decisions(), class_="live")


def _explain(parties: Iterable[str]) -> Html:
    def field(name: str, label: str, **attributes: str | int | bool) -> Html:
        written = element("input", id=name, name=name, required=True, **attributes)
        return element("label", label, written)

    text: dict[str, str | int | bool] = {
        "list": "parties",
        "maxlength": 512,
        "autocomplete": "off",
        "spellcheck": "false",
        "placeholder": "spiffe://…",
    }
    return element(
        "section",
        element("h2", "Why is it so?"),
        element(
            "form",
            field("source", "Source", **text),
            field("destination", "Destination", **text),
            field("port", "Port", type="number", min=1, max=65535),
            element("button", "Explain", type="submit"),
            id="explain",
            action="v1/explain",
            method="get",
        ),
        element("datalist", *(element("option", value=name) for name in parties), id="parties"),
        element("div", id="explanation", aria_live="polite"),
        class_="panel",
    )


def _decisions() -> Html:
    head = element("tr", *(element("th", name, scope="col") for name in _RECENT))
    controls = [
        element("button", "Pause", type="button", id="pause", hidden=True),
        element(
            "label",
            element("input", type="checkbox", id="only"),
            " only refused, or to be refused",
        ),
        element("span", id="updated", role="status", class_="quiet"),
    ]
    return element(
        "section",
        element("h2", "Latest decisions"),
        element("div", *controls, class_="controls"),
        element("noscript", element("p", "The table needs JavaScript.", class_="quiet")),
        element(
            "div",
            element(
                "table",
                element("thead", head),
                element("tbody", id="decisions"),
                aria_label="Latest decisions",
            ),
            class_="scroll",
        ),
        class_="panel",
    )
