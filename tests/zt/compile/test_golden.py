"""Compiled output, kept as files: a change of the compiler shows in review as what it changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import GOLDEN
from tests.strategies import TODAY
from zt.check import check
from zt.compile import compile_policy
from zt.load import load_policy

POLICIES = {
    "hanzo": ("policies", ("hanzo-k8s", "lux-k8s", "ci")),
    "minimal": ("tests/policies/minimal.yaml", ("east",)),
    "rollout": ("tests/policies/rollout.yaml", ("east",)),
}
CASES = [(name, place) for name, (_, places) in POLICIES.items() for place in places]


@pytest.mark.parametrize(("name", "place"), CASES)
def test_what_is_compiled_is_what_was_reviewed(
    name: str, place: str, golden: Callable[[str, str], None], request: pytest.FixtureRequest
) -> None:
    bundle = compile_policy(load_policy(POLICIES[name][0]), place, TODAY)
    folder = GOLDEN / name / place
    paths = {file.path for file in bundle.files}
    if request.config.getoption("--golden"):
        _remove(stale(folder, paths))
    for file in bundle.files:
        golden(f"{name}/{place}/{file.path}", file.text())
    assert not stale(folder, paths), "not compiled any more: `make golden` removes them"


@pytest.mark.parametrize("name", POLICIES)
def test_the_policies_have_no_findings(name: str) -> None:
    assert check(load_policy(POLICIES[name][0]), TODAY) == ()


def stale(folder: Path, paths: set[str]) -> list[Path]:
    """Files of a folder that are not compiled."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return [path for path in files if str(path.relative_to(folder)) not in paths]


def _remove(files: list[Path]) -> None:
    for file in files:
        file.unlink()


def test_postgres_ingress_is_the_one_that_the_specification_prints() -> None:
    bundle = compile_policy(load_policy("policies"), "hanzo-k8s", TODAY)
    policy = bundle.file("networkpolicies/hanzo/postgres-ingress.yaml").manifest()
    assert policy["metadata"]["name"] == "postgres-ingress"
    assert policy["metadata"]["namespace"] == "hanzo"
    assert policy["spec"]["podSelector"] == {"matchLabels": {"app": "postgres"}}
    assert policy["spec"]["policyTypes"] == ["Ingress"]
    (rule,) = policy["spec"]["ingress"]
    peers = [peer["podSelector"]["matchLabels"]["app"] for peer in rule["from"]]
    assert sorted(peers) == ["cloud", "console", "gateway", "iam"]
    assert all(set(peer) == {"podSelector"} for peer in rule["from"])
    assert rule["ports"] == [{"protocol": "TCP", "port": 5432}]
