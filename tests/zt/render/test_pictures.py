"""Graphs as SVG, Mermaid, DOT and text."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings

from tests.strategies import TODAY, documents, policies
from zt.effective import effective
from zt.graph import Graph, graph
from zt.load import assemble, load_policy
from zt.model import ExternalService, Phase, Policy, ServicePhase
from zt.render.dot import dot
from zt.render.mermaid import mermaid
from zt.render.svg import svg
from zt.render.text import graph_text

SVG = "{http://www.w3.org/2000/svg}"
REAL = load_policy("policies")


def of(policy: Policy) -> Graph:
    return graph(effective(policy, TODAY))


@pytest.mark.parametrize("render", [svg, mermaid, dot, graph_text])
@settings(max_examples=30)
@given(policies())
def test_the_same_documents_in_any_order_give_the_same_picture(
    render: Callable[[Graph], str], policy: Policy
) -> None:
    shuffled = assemble(documents(policy)[::-1])

    assert render(of(policy)) == render(of(shuffled))


@settings(max_examples=50)
@given(policies())
def test_the_svg_is_xml_with_every_node_and_edge_and_nothing_from_elsewhere(
    policy: Policy,
) -> None:
    found = of(policy)

    text = svg(found)

    root = ET.fromstring(text)  # noqa: S314 - our own
    assert root.get("role") == "img"
    shapes = [element for element in root.iter(f"{SVG}rect") if is_node(element)]
    assert len(shapes) == len(found.nodes)
    arrows = [e for e in root.iter(f"{SVG}g") if e.find(f"{SVG}polygon") is not None]
    assert sum(len(arrow.findall(f"{SVG}path")) for arrow in arrows) == len(found.edges)
    assert "http" not in text.replace('xmlns="http://www.w3.org/2000/svg"', "").replace(
        " http", ""
    ).replace(">http", "")


def is_node(element: ET.Element) -> bool:
    return bool({"node", "external"} & set((element.get("class") or "").split()))


def test_the_svg_says_in_words_what_it_shows() -> None:
    root = ET.fromstring(svg(of(REAL)))  # noqa: S314 - our own

    names = (root.get("aria-labelledby") or "").split()
    told = {e.get("id"): e.text for e in root if e.get("id") in names}
    assert told["zt-graph-title"] == "Who may call whom"
    description = told["zt-graph-desc"] or ""
    assert description.startswith("18 services, 4 outside, 32 edges. ")
    assert "validator may call gateway on 4000 (across clusters)." in description


def test_styles_of_the_svg_hold_for_the_svg_alone() -> None:
    style = re.search("<style>(.*)</style>", svg(of(REAL)), re.DOTALL)

    assert style is not None
    assert all(rule.startswith(".zt-graph ") for rule in style[1].splitlines())


def test_a_name_from_outside_cannot_add_markup() -> None:
    hostile = ExternalService('x"><script>')
    policy = replace(REAL, externals=(*REAL.externals, hostile))

    assert "<script>" not in svg(of(policy))


def observed() -> Policy:
    rollout = REAL.rollout
    assert rollout is not None
    services = (ServicePhase("iam", Phase.OBSERVE), ServicePhase("redis", Phase.CANARY))
    return replace(REAL, rollout=replace(rollout, services=services))


def test_phases_and_crossings_are_drawn_apart() -> None:
    root = ET.fromstring(svg(of(observed())))  # noqa: S314 - our own

    arrows = [e for e in root.iter(f"{SVG}g") if e.find(f"{SVG}polygon") is not None]
    kinds = {e.get("class") for e in arrows}
    assert kinds == {"edge enforce", "edge observe", "edge canary", "edge enforce crosses"}


def test_mermaid_draws_places_and_dots_what_is_observed() -> None:
    lines = mermaid(of(observed())).splitlines()

    assert lines[0] == "flowchart LR"
    assert '    subgraph c1_0["hanzo"]' in lines
    assert sum("-.->" in line for line in lines) == 3
    assert sum("-->" in line for line in lines) == 29
    assert lines[-1].startswith("  linkStyle ")


def test_dot_names_nodes_by_their_ids() -> None:
    text = dot(of(observed()))

    chat, gateway = (f'"spiffe://hanzo.ai/hanzo-k8s/hanzo/{name}"' for name in ("chat", "gateway"))
    tooltip = 'tooltip="hanzo-core-policy/rule-3"'
    assert f'  {chat} -> {gateway} [label="4000", {tooltip}, style=solid];' in text
    assert text.count("style=dashed") == 3
    assert text.count("{") == text.count("}")


def test_text_has_a_line_for_each_edge() -> None:
    lines = graph_text(of(REAL)).splitlines()

    assert len(lines) == 32
    assert any(
        re.fullmatch(r"validator +-> +gateway +4000 +\S+/rule-4 +across clusters", line)
        for line in lines
    )


def test_an_empty_graph_is_drawn_as_well() -> None:
    empty = Graph((), ())

    assert ET.fromstring(svg(empty)).tag == f"{SVG}svg"  # noqa: S314 - our own
    assert graph_text(empty) == ""
    assert mermaid(empty) == "flowchart LR\n"
    assert dot(empty).count("\n") == 5
