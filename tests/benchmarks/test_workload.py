"""The benchmark asks what it says that it asks."""

from collections import Counter
from pathlib import Path

import pytest

from benchmarks.engine.ours import write_compiled, write_sources
from benchmarks.engine.workload import TODAY, workload
from zt.check import check
from zt.compile.decisions import PATH, decode
from zt.decide import Verdict, decide, decision_table
from zt.load import load
from zt.position import Severity


@pytest.mark.parametrize("size", [10, 1_000])
def test_expected_answers_are_the_policy_s(size: int) -> None:
    rules = workload(size)
    table = decision_table(rules.policy, TODAY)
    asks = rules.asks(4_000)
    for ask in asks:
        decision = decide(table, ask.source, ask.destination, ask.port)
        assert decision.rule == ask.rule
        assert (decision.verdict is Verdict.ALLOW) is ask.allowed
    assert sum(ask.allowed for ask in asks) == 2_000


def test_refusals_are_of_all_kinds() -> None:
    rules = workload(1_000)
    table = decision_table(rules.policy, TODAY)
    reasons = Counter(
        decide(table, ask.source, ask.destination, ask.port).reason
        for ask in rules.asks(4_000)
        if not ask.allowed
    )
    assert len(reasons) == 4
    assert min(reasons.values()) > 250


def test_requests_are_distinct_where_there_are_so_many() -> None:
    asks = workload(10_000).asks(10_000)
    assert len(set(asks)) > 9_900


def test_both_forms_hold_the_same_policy(tmp_path: Path) -> None:
    rules = workload(1_000)
    write_compiled(rules, tmp_path)
    write_sources(rules, tmp_path)
    loaded = load(tmp_path / "policies").policy
    assert loaded is not None
    assert not [f for f in check(loaded, TODAY) if f.severity is Severity.ERROR]
    assert decision_table(loaded, TODAY) == decode((tmp_path / PATH).read_text())
