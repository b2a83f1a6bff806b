"""The table, the JSON and the page say the same."""

import io
import json

from rich.console import Console

from lab.attack.identity import identity
from lab.attack.layers import REMOVALS
from lab.attack.model import Layer, Result, Seen
from lab.attack.network import network
from lab.attack.report import attacked_json, page, rows, show
from lab.attack.run import Attacked, ClusterAttacked
from tests.attack.scenes import record, refused, scene

SCENE = scene()
TARGETS = tuple(target.name for target in SCENE.targets)


def made(*, away: int | None = None) -> list[Result]:
    """As it should be: stopped by the first layer that is there."""
    removal = None if away is None else REMOVALS[away]
    planes = removal.planes if removal else frozenset()
    results = []
    for attempt in (*network(SCENE), *identity(SCENE)):
        expected = attempt.attack.stopped_by(planes)
        layer = min(expected, default=None)
        if layer is None:
            seen = Seen(got_in=True, how="", said="hello", packets=1)
        elif layer in {"handshake", "listener", "evaluator", "rbac"}:
            seen = Seen(got_in=False, how="tls", said="", packets=1, records=(record(layer),))
        else:
            seen = refused("unreachable", packets=0)
        results.append(Result(attempt, removal.name if removal else "", layer, seen, expected))
    return results


def attacked(*results: Result, alive: tuple[str, ...] = TARGETS, more: int = 0) -> Attacked:
    recorded = sum(len(result.denials) for result in results) + more
    return Attacked((ClusterAttacked("hanzo-k8s", TARGETS, alive, results, recorded),), 12.34)


def test_all_well() -> None:
    found = attacked(*made(), *made(away=2), *made(away=3))
    said = attacked_json(found)
    assert said["mismatches"] == 0
    assert said["attempts"] == len(found.results)
    assert json.loads(json.dumps(said)) == said
    alone = {row["attack"] for row in said["attacks"] if row["stopped"] < row["tried"]}
    assert "plaintext to the pod's IP, from the node of the pod" in alone


def test_an_attack_is_one_row_whatever_its_targets() -> None:
    found = rows(made())
    row = next(row for row in found if row.name == "TLS without a client certificate")
    assert len(row.results) == len(TARGETS)
    assert row.layers == {"handshake": len(TARGETS)}
    assert row.records == {"DENY, handshake, no_rule, no source": len(TARGETS)}


def test_a_dead_target_counts_as_a_mismatch() -> None:
    assert attacked(*made(), alive=TARGETS[1:]).mismatches == 1


def test_a_record_of_nothing_counts_as_a_mismatch() -> None:
    found = attacked(*made(), more=2)
    assert found.mismatches == 2
    assert attacked_json(found)["clusters"][0]["unexplained"] == 2


def test_one_that_got_in_is_shown() -> None:
    first, *rest = made()
    got_in = Result(first.attempt, "", None, Seen(True, "", "hello"), first.expected)  # noqa: FBT003
    found = attacked(got_in, *rest)
    assert attacked_json(found)["mismatches"] == 1
    console = Console(record=True, width=200, file=io.StringIO())
    show(console, found)
    text = console.export_text()
    assert "it got in" in text
    assert "1 mismatches" in text
    assert "**got in (1)**" in page(found)


def test_the_page_has_what_one_layer_holds_alone() -> None:
    text = page(attacked(*made(), *made(away=3)))
    _, _, alone = text.partition("## What one layer holds alone")
    assert "While the redirect is removed:" in alone
    assert "- plaintext to the pod's IP, from the node of the pod\n" in alone
    assert "stolen SVID of a service that may not call" not in alone
    assert text.count("## ") >= 4
    assert "| application |" not in text.partition("## Which layer")[0].partition("## With")[0]


def test_layers_are_explained_where_they_stopped_something() -> None:
    text = page(attacked(*made()))
    assert f"| {Layer.HANDSHAKE} |" in text
    assert f"| {Layer.RBAC} |" not in text
