"""What the benchmark of `pulumi up` measures."""

from pathlib import Path

import pytest

from benchmarks import pulumi as benchmark
from tests.lab.pulumi.policies import add_rule, concerned, copied
from tests.strategies import TODAY
from zt.check import check
from zt.load import load_policy
from zt.position import Severity


@pytest.fixture
def generated(tmp_path: Path) -> benchmark.Case:
    (tmp_path / "policies").mkdir()
    return benchmark._case(benchmark.GENERATED, tmp_path)


def test_the_generated_policy_is_as_large_as_it_says(generated: benchmark.Case) -> None:
    policy = load_policy(generated.policies)
    names = [item.name for item in policy.services if item.name.startswith("service-")]
    assert len(names) == benchmark.GENERATED_SERVICES
    (access,) = (item for item in policy.access if item.name == "it")
    assert len(access.rules) == benchmark.GENERATED_RULES
    assert not [item for item in check(policy, TODAY) if item.severity is Severity.ERROR]


def test_the_rule_that_is_added_changes_both_ends(
    generated: benchmark.Case, tmp_path: Path
) -> None:
    before = copied(tmp_path / "before", generated.policies)
    add_rule(generated.policies, generated.source, *generated.destination)
    changed = concerned("hanzo-k8s", before, generated.policies)
    assert {
        "NetworkPolicy namespace-0/service-0-egress",
        "NetworkPolicy namespace-19/service-299-ingress",
        "ConfigMap namespace-0/zt-envoy-service-0",
        "ConfigMap namespace-19/zt-envoy-service-299",
    } <= changed
    assert len(changed) < 10


def test_one_stack_may_be_measured_alone(capsys: pytest.CaptureFixture[str]) -> None:
    asked = benchmark._options().parse_args(["--only", "generated", "--only", "lux-k8s"])
    assert asked.only == ["generated", "lux-k8s"]
    with pytest.raises(SystemExit):
        benchmark._options().parse_args(["--only", "nothing"])
    assert "choose from 'hanzo-k8s'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("preview", "again", "rule", "missed"),
    [(9.9, 9.9, 14.9, False), (10.1, 1, 1, True), (1, 10.1, 1, True), (1, 1, 15.1, True)],
)
def test_a_target_is_missed(preview: float, again: float, rule: float, *, missed: bool) -> None:
    found = benchmark.Figures("a stack", 100, 5, preview, 100, again, rule, 100)
    assert found.missed is missed
