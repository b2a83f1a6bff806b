import json
from pathlib import Path

import pytest

from tests.strategies import TODAY
from tests.zt.cli.conftest import Run
from zt.effective import effective
from zt.graph import graph
from zt.load import load_policy
from zt.render.dot import dot
from zt.render.mermaid import mermaid
from zt.render.svg import svg
from zt.render.text import graph_text


@pytest.mark.parametrize("render", [svg, mermaid, dot])
def test_a_format_is_what_its_renderer_writes(run: Run, render: object) -> None:
    found = run("graph", "--format", getattr(render, "__name__", ""))

    policy = load_policy("policies")
    assert found.exit_code == 0
    assert found.output == render(graph(effective(policy, TODAY)))  # type: ignore[operator]


def test_text_is_the_default(run: Run, small: Path) -> None:
    found = run("graph", small)

    assert found.output == graph_text(graph(effective(load_policy(small), TODAY)))


def test_json_has_nodes_and_edges(run: Run, small: Path) -> None:
    found = run("graph", "--json", small)

    assert run("graph", "--format", "json", small).output == found.output
    answer = json.loads(found.output)
    assert [node["name"] for node in answer["nodes"]] == ["db", "shop", "zt-policy-engine"]
    assert answer["edges"][0] == {
        "source": "spiffe://hanzo.ai/east/web/shop",
        "destination": "spiffe://hanzo.ai/east/web/db",
        "grants": [{"port": 5432, "rule": "rules/rule-1"}],
        "crosses": False,
        "phase": "enforce",
    }


def test_findings_are_json_too(run: Run, small: Path) -> None:
    (small / "all.yaml").write_text("")

    found = run("graph", "--json", small)

    assert found.exit_code == 1
    assert json.loads(found.output)["findings"][0]["code"] == "empty-file"
