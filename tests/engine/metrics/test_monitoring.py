"""Dashboard and alerts ask only for what is really exported."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from engine.metrics.families import FAMILIES
from gateway.tunnel import metrics as tunnel

DOCS = Path(__file__).parents[3] / "docs"
# The gateway exports these (HIP-54, "Prometheus Metrics", has the first).
GATEWAY = {
    "zt_wireguard_peer_up": {"cluster"},
    "zt_wireguard_received_bytes_total": {"cluster"},
    "zt_wireguard_sent_bytes_total": {"cluster"},
    "zt_wireguard_handshake_age_seconds": {"cluster"},
    "zt_wireguard_unattested_total": {"cluster"},
    "zt_wireguard_key_age_seconds": set[str](),
    "zt_wireguard_rotation": {"step"},
    "zt_wireguard_store_failing": set[str](),
}
# Prometheus says where a sample comes from.
TARGET = {"instance", "job"}
VARIABLES = {"$__rate_interval": "5m", "$__range": "6h", "$instance": ".*"}

Json = dict[str, Any]


def test_the_gateway_exports_these() -> None:
    assert GATEWAY.keys() == tunnel._FAMILIES.keys()


def exported() -> dict[str, set[str]]:
    """The labels of each series."""
    found = dict(GATEWAY)
    for name, family in FAMILIES.items():
        labels = set(family.labels)
        if family.kind == "histogram":
            found |= {f"{name}_bucket": labels, f"{name}_sum": set(), f"{name}_count": set()}
        elif family.kind == "summary":
            found |= {name: labels, f"{name}_sum": set(), f"{name}_count": set()}
        else:
            found[name] = labels
    return found


def alerts() -> list[Json]:
    content = yaml.safe_load((DOCS / "monitoring" / "alerts.yaml").read_text())
    return [rule for group in content["groups"] for rule in group["rules"]]


def dashboard() -> Json:
    content = json.loads((DOCS / "monitoring" / "dashboard.json").read_text())
    assert isinstance(content, dict)
    return content


def queries() -> Iterator[str]:
    for rule in alerts():
        yield rule["expr"]
    shown = dashboard()
    for panel in shown["panels"]:
        for target in panel["targets"]:
            yield target["expr"]
    for annotation in shown["annotations"]["list"]:
        yield annotation["expr"]


def parsed(query: str) -> Any:  # noqa: ANN401 - the parser's types are of its own
    for name, value in VARIABLES.items():
        query = query.replace(name, value)
    return promql_parser.parse(query)


def selectors(tree: Any) -> Iterator[promql_parser.VectorSelector]:  # noqa: ANN401 - as above
    found: list[promql_parser.VectorSelector] = []

    def visit(node: object) -> bool:
        if isinstance(node, promql_parser.VectorSelector):
            found.append(node)
        return True

    promql_parser.walk(tree, visit)
    yield from found


def grouped(query: str) -> set[str]:
    """The labels that a query groups by or matches on."""
    lists = re.findall(r"\b(?:by|on|group_left|group_right)\s*\(([^)]*)\)", query)
    return {label.strip() for text in lists for label in text.split(",") if label.strip()}


@pytest.mark.parametrize("query", sorted(set(queries())))
def test_a_query_asks_for_what_is_exported(query: str) -> None:
    known = exported()
    asked = list(selectors(parsed(query)))
    assert asked
    labels: set[str] = set()
    for selector in asked:
        assert selector.name in known
        own = known[selector.name] | TARGET
        labels |= own
        assert {matcher.name for matcher in selector.matchers.matchers} <= own
    made = set(re.findall(r'label_replace\(.*?"(\w+)"', query, re.DOTALL))
    assert grouped(query) <= labels | made


def test_a_wrong_name_would_be_seen() -> None:
    """The parser is not more patient than Prometheus."""
    [selector] = selectors(parsed("sum(rate(zt_no_such_total[5m]))"))
    assert selector.name not in exported()
    with pytest.raises(ValueError, match="unclosed"):
        parsed("sum by (x (zt_policy_ready)")


def test_every_alert_says_what_it_means_and_where_to_read_on() -> None:
    headings = set(re.findall(r"^### (\w+)$", (DOCS / "monitoring.md").read_text(), re.MULTILINE))
    names = [rule["alert"] for rule in alerts()]
    assert set(names) == headings
    assert len(names) == len(headings)
    for rule in alerts():
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["description"]
        assert rule["annotations"]["runbook_url"] == f"docs/monitoring.md#{rule['alert'].lower()}"


def test_what_alerts_print_of_a_series_is_left_in_it() -> None:
    for rule in alerts():
        printed = set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"])))
        left = grouped(rule["expr"]) if " by (" in rule["expr"] else TARGET | {"cluster"}
        assert printed <= left, rule["alert"]


def test_every_metric_is_in_the_documentation_with_its_labels() -> None:
    rows = re.findall(
        r"^\| `(zt_\w+)` \| ([^|]*)\|", (DOCS / "monitoring.md").read_text(), re.MULTILINE
    )
    written = {
        name: {*re.findall(r"`([a-z]+)`", re.sub(r"\(.*?\)", "", text))} for name, text in rows
    }
    assert written == {name: set(family.labels) for name, family in FAMILIES.items()} | GATEWAY


def test_every_metric_is_on_the_dashboard_or_in_an_alert() -> None:
    asked = {str(item.name) for query in queries() for item in selectors(parsed(query))}
    for name in FAMILIES | GATEWAY:
        assert any(found == name or found.startswith(f"{name}_") for found in asked), name


def test_panels_lie_side_by_side() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        taken |= cells
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
