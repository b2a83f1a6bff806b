from datetime import date
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.generate import generated_policy
from engine.page import graph as subject
from engine.page.graph import Level, declared, group, is_party
from tests.engine.samples import TODAY, WEB, policy
from zt.effective import effective
from zt.graph import graph

Json = dict[str, Any]


def pairs(found: Json) -> set[tuple[str, str]]:
    return {(edge["source"], edge["destination"]) for edge in found["edges"]}


def test_what_is_declared_is_drawn() -> None:
    resolved = effective(policy(), TODAY)
    found, whole = declared(resolved), graph(resolved)
    assert found == orjson.loads(orjson.dumps(found))
    assert found["level"] == "services"
    assert {node["id"] for node in found["nodes"]} == {node.id for node in whole.nodes}
    assert pairs(found) == {(edge.source, edge.destination) for edge in whole.edges}
    assert [5432, "core/rule-1"] in next(e for e in found["edges"] if e["source"] == WEB)["grants"]
    assert found["phases"] == {"enforce": 4, "observe": 1, "canary": 1}


def test_boxes_lie_in_the_picture_and_apart() -> None:
    found = declared(effective(policy(), TODAY))
    boxes = [node["box"] for node in found["nodes"]]
    for index, (left, top, width, height) in enumerate(boxes):
        assert 0 <= left < left + width <= found["width"]
        assert 0 <= top < top + height <= found["height"]
        for x, y, wide, high in boxes[index + 1 :]:
            assert x >= left + width or left >= x + wide or y >= top + height or top >= y + high


@pytest.mark.parametrize("level", [Level.NAMESPACES, Level.CLUSTERS])
def test_a_large_graph_is_drawn_by_groups(level: Level, monkeypatch: pytest.MonkeyPatch) -> None:
    resolved = effective(generated_policy(60, 300), date(2026, 11, 24))
    whole = graph(resolved)
    groups = {group(node.id, Level.NAMESPACES) for node in whole.nodes}
    shown = len(groups) if level is Level.NAMESPACES else len(groups) - 1
    monkeypatch.setattr(subject, "NODES_SHOWN", shown)
    found = declared(resolved)
    assert found["level"] == level
    assert {node["id"] for node in found["nodes"]} == {group(n.id, level) for n in whole.nodes}
    assert sum(node["parties"] for node in found["nodes"]) == len(whole.nodes)
    across = {(group(e.source, level), group(e.destination, level)) for e in whole.edges}
    assert pairs(found) == {pair for pair in across if pair[0] != pair[1]}
    assert found["services"] == sum(not node.is_external for node in whole.nodes)
    assert {node["namespace"] for node in found["nodes"]} == {""}
    assert found["edges_in_all"] == len(whole.edges)


def test_a_thousand_services_stay_small() -> None:
    found = declared(effective(generated_policy(1000, 3000), date(2026, 11, 24)))
    assert len(found["nodes"]) <= subject.NODES_SHOWN
    assert len(orjson.dumps(found)) < 2_000_000


@given(st.none() | st.text() | st.just("spiffe://hanzo.ai/east/shop/web"))
def test_a_group_of_a_group_is_itself(party: str | None) -> None:
    for level in Level:
        once = group(party, level)
        assert group(once, level) == once


def test_groups_and_nobody_are_no_parties() -> None:
    assert is_party(WEB)
    assert is_party("external:internet")
    assert not any(
        is_party(name) for name in ("", "spiffe://hanzo.ai/east", group(WEB, Level.NAMESPACES))
    )


def test_groups_are_parts_of_the_identity() -> None:
    assert group(WEB, Level.SERVICES) == WEB
    assert group(WEB, Level.NAMESPACES) == "spiffe://hanzo.ai/east/shop"
    assert group(WEB, Level.CLUSTERS) == "spiffe://hanzo.ai/east"
    assert group("external:internet", Level.CLUSTERS) == "external:internet"
    assert group(None, Level.SERVICES) == ""
