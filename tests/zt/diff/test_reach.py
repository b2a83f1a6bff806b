"""Who reaches whom before and after, against the decision."""

from dataclasses import replace

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.strategies import TODAY, policies
from zt.decide import Decision, Verdict, decide, decision_table
from zt.diff import Diff, diff
from zt.effective import effective
from zt.model import Phase, Policy

Key = tuple[str, str, int]


def compare(old: Policy, new: Policy) -> Diff:
    return diff(effective(old, TODAY), effective(new, TODAY))


def allowed(policy: Policy, keys: set[Key]) -> dict[Key, Decision]:
    table = decision_table(policy, TODAY)
    found = {key: decide(table, *key) for key in keys}
    return {key: answer for key, answer in found.items() if answer.verdict is Verdict.ALLOW}


def every_connection(*all_policies: Policy) -> set[Key]:
    tables = [decision_table(policy, TODAY) for policy in all_policies]
    names = {name for table in tables for name in table.ports}
    ports = {port for table in tables for found in table.ports.values() for port in found}
    return {(source, to, port) for source in names for to in names for port in ports}


@settings(max_examples=50)
@given(policies())
def test_a_policy_does_not_differ_from_itself(policy: Policy) -> None:
    found = compare(policy, policy)

    assert found == Diff((), (), (), (), (), (), (), (), ())
    assert not found.changes_access


@settings(max_examples=50)
@given(policies(), policies())
def test_the_difference_is_what_decide_answers_otherwise(old: Policy, new: Policy) -> None:
    keys = every_connection(old, new)
    before, after = allowed(old, keys), allowed(new, keys)

    found = compare(old, new)

    gained = {(reach.source, reach.destination, reach.port): reach.rule for reach in found.gained}
    lost = {(reach.source, reach.destination, reach.port): reach.rule for reach in found.lost}
    assert gained == {key: after[key].rule for key in after if key not in before}
    assert lost == {key: before[key].rule for key in before if key not in after}
    assert found.changes_access or not (gained or lost)


@settings(max_examples=30)
@given(policies(), policies())
def test_the_way_back_is_the_difference_turned_around(old: Policy, new: Policy) -> None:
    there, back = compare(old, new), compare(new, old)

    assert set(there.gained) == set(back.lost)
    assert set(there.lost) == set(back.gained)
    assert {(p.service, p.old, p.new) for p in there.phases} == {
        (p.service, p.new, p.old) for p in back.phases
    }
    assert set(there.added) == set(back.removed)
    assert there.changes_access == back.changes_access


@settings(max_examples=50)
@given(policies())
def test_a_policy_under_another_name_has_only_moved(policy: Policy) -> None:
    assume(policy.access)
    first, *others = policy.access
    renamed = replace(policy, access=(replace(first, name="another"), *others))

    found = compare(policy, renamed)

    assert not found.changes_access
    assert not found.changes
    assert all(moved.reach.rule != moved.old_rule for moved in found.moved)
    assert {moved.reach.rule.partition("/")[0] for moved in found.moved} <= {"another"}


@settings(max_examples=50)
@given(policies(), st.data())
def test_without_a_rule_only_its_own_connections_are_lost(
    policy: Policy, data: st.DataObject
) -> None:
    assume(policy.access)
    access = data.draw(st.sampled_from(policy.access))
    index = data.draw(st.integers(0, len(access.rules) - 1))
    name = f"{access.name}/rule-{index + 1}"
    fewer = replace(access, rules=(*access.rules[:index], *access.rules[index + 1 :]))
    others = tuple(fewer if one is access else one for one in policy.access)

    found = compare(policy, replace(policy, access=others))

    assert not found.gained
    assert {reach.rule for reach in found.lost} <= {name}


@settings(max_examples=50)
@given(policies())
def test_without_a_rollout_every_service_behind_it_refuses_more(policy: Policy) -> None:
    behind = {s.spiffe for s in effective(policy, TODAY).services if s.phase is not Phase.ENFORCE}

    found = compare(policy, replace(policy, rollout=None))

    assert {change.service for change in found.phases} == behind
    assert all(change.refuses_more for change in found.phases)
    assert all(change.new is Phase.ENFORCE for change in found.phases)
