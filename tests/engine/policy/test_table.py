"""The mapped table answers what ``zt.decide`` answers, whatever it is asked."""

import random
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.builder import snapshot_of
from engine.locate import Surroundings
from engine.policy.layout import PHASES, Facts, encode
from engine.policy.table import Table, empty_snapshot
from tests.engine.samples import API, DB, NEW, TODAY, WEB, in_force, policy
from tests.strategies import policies
from zt.decide import DecisionTable, Reason, Verdict, decide, decision_table
from zt.model import Phase, Policy

FACTS = Facts("r1", Surroundings(), {})
NAMES = st.text(max_size=8) | st.sampled_from(["external:x", "spiffe://hanzo.ai/a/b/c", "\ud800"])


def asked(table: DecisionTable, pick: random.Random) -> tuple[str, str, int]:
    """A question whose parts are mostly declared."""
    parties = [*table.selectors, "", "spiffe://hanzo.ai/no/such/one", "\ud800"]
    source, destination = pick.choice(parties), pick.choice(parties)
    ports = [*table.ports.get(destination, ()), 0, 1, 65535, 65536, 1 << 40, -1]
    return source, destination, pick.choice(ports)


@given(policies(), st.randoms(use_true_random=False))
def test_as_the_reference_decides(generated: Policy, pick: random.Random) -> None:
    reference = decision_table(generated, TODAY)
    mapped = snapshot_of(generated, TODAY).table
    for source, destination, port in [asked(reference, pick) for _ in range(200)]:
        expected = decide(reference, source, destination, port)
        assert mapped.decide(source, destination, port) == expected
    for grant in reference.grants:
        assert mapped.decide(*grant) == decide(reference, *grant)


@given(policies())
def test_parties_and_phases(generated: Policy) -> None:
    reference = decision_table(generated, TODAY)
    mapped = snapshot_of(generated, TODAY).table
    assert list(mapped.parties()) == list(reference.selectors)
    assert all(mapped.declares(party) for party in reference.selectors)
    for party in reference.selectors:
        assert mapped.phase(party) == reference.phases.get(party)


@given(st.dictionaries(NAMES.filter(str.isprintable), st.just(()), max_size=40), NAMES)
def test_names_that_nobody_has(names: dict[str, tuple[str, ...]], name: str) -> None:
    selectors = {party: (party,) for party in names}
    table = Table(encode(DecisionTable(selectors, {}, {}, (), {}), FACTS))
    assert table.declares(name) == (name in names)


def test_many_rules() -> None:
    """Enough for long probes, many patterns and rules beyond 16 bits."""
    parties = [f"spiffe://hanzo.ai/c/n/{number}" for number in range(2000)]
    pick = random.Random(7)  # noqa: S311 - not for secrets
    grants = {
        (pick.choice(parties), pick.choice(parties), pick.randint(1, 65535)): rule
        for rule in range(70_000)
    }
    ports: dict[str, set[int]] = {party: set() for party in parties}
    for _, destination, port in grants:
        ports[destination].add(port)
    reference = DecisionTable(
        {party: (party,) for party in parties},
        {party: frozenset(declared) for party, declared in ports.items()},
        grants,
        tuple(f"rule-{rule}" for rule in range(70_000)),
        {},
    )
    mapped = Table(encode(reference, FACTS))
    for grant in grants:
        assert mapped.decide(*grant) == decide(reference, *grant)


def test_facts_come_back() -> None:
    snapshot = in_force()
    assert snapshot.loaded
    assert len(snapshot.revision) == 16
    assert snapshot.surroundings.external("192.0.2.7") == "office"
    assert snapshot.surroundings.is_pod("10.0.3.4")
    assert snapshot.table.phase(NEW) is Phase.OBSERVE
    assert snapshot.table.decide(WEB, DB, 5432).verdict is Verdict.ALLOW


def test_expired_rules_are_gone() -> None:
    later = snapshot_of(policy(), date(2026, 11, 24))
    assert in_force().table.decide(API, DB, 5432).verdict is Verdict.ALLOW
    assert later.table.decide(API, DB, 5432).reason is Reason.NO_RULE


def test_before_any_policy() -> None:
    empty = empty_snapshot()
    assert not empty.loaded
    assert empty.table.decide(WEB, DB, 5432).reason is Reason.UNKNOWN_SOURCE
    assert list(empty.table.parties()) == []


@given(st.data())
def test_damage_is_noticed(data: st.DataObject) -> None:
    content = bytearray(encode(decision_table(policy(), TODAY), FACTS))
    position = data.draw(st.integers(0, len(content) - 1))
    padding = range(12, 16)
    content[position] ^= data.draw(st.integers(1, 255))
    if position in padding:
        Table(bytes(content))
    else:
        with pytest.raises(ValueError, match=r"build it again$"):
            Table(bytes(content))


def test_cut_short() -> None:
    content = encode(decision_table(policy(), TODAY), FACTS)
    for size in (0, 7, 40, len(content) - 8):
        with pytest.raises(ValueError, match="build it again"):
            Table(content[:size])


def test_every_phase_has_a_number() -> None:
    assert set(PHASES) == {None, *Phase}
