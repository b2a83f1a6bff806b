"""The whole lab, as a person would use it: up, verify, attack, some faults, down."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lab.cluster.model import Layout
from lab.nodes import cgroups
from tests.lab.cluster.traces import traces

Json = dict[str, Any]

CHECKOUT = Path(__file__).parents[3]
pytestmark = pytest.mark.timeout(1800)


@dataclass(frozen=True)
class Lab:
    """A lab in a folder of its own."""

    folder: Path

    def run(self, *arguments: str) -> Json:
        """A command's JSON. What it printed beside is shown if the test fails."""
        done = subprocess.run(
            [sys.executable, "-m", "zt", "lab", *arguments, "--state", str(self.folder), "--json"],
            cwd=CHECKOUT,
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        print(done.stdout)  # noqa: T201 - shown if the test fails
        assert done.returncode == 0
        found: Json = json.loads(done.stdout)
        return found


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    made = Lab(tmp_path_factory.mktemp("lab") / "state")
    try:
        made.run("up")
        yield made
    finally:
        made.run("down")
    assert traces(made.folder) == []
    assert cgroups.existing(Layout(made.folder)) == ()


def test_everybody_reaches_whom_the_policy_says_and_the_trail_has_it(lab: Lab) -> None:
    found = lab.run("verify")
    assert found["mismatches"] == 0
    assert {item["cluster"] for item in found["clusters"]} == {"hanzo-k8s", "lux-k8s"}
    assert all(item["passed"] and item["refused"] for item in found["clusters"])
    assert all(check["held"] for check in found["checks"])


def test_every_attack_is_stopped_also_with_a_layer_gone(lab: Lab) -> None:
    found = lab.run("attack")
    assert found["mismatches"] == 0
    assert found["stopped"] > 1000


def test_nothing_passes_and_nothing_is_lost_while_parts_break(lab: Lab) -> None:
    found = lab.run("faults", "--short")
    assert found["faults"]
    assert (found["held"], found["passed"], found["lost"]) == (True, 0, 0)


def test_the_tunnel_carries_what_is_declared_and_keys_stay_in_kms(lab: Lab) -> None:
    # Last: it looks for keys in all that was written until now.
    found = lab.run("tunnel", "--only", "crossing", "--only", "wire", "--only", "leaks")
    assert found["mismatches"] == 0
    assert {"the wire"} < {check["name"] for check in found["checks"]}
