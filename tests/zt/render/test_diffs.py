"""Differences as text, Markdown and JSON."""

import json
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings

from tests.strategies import TODAY, policies
from zt.diff import Change, Diff, diff
from zt.effective import effective
from zt.load import load_policy
from zt.model import ClaimSelector, OperatorRoleBinding, Phase, Policy
from zt.render.data import diff_data
from zt.render.markdown import BUDGET, markdown
from zt.render.text import diff_text

REAL = load_policy("policies")
NOTHING = Diff((), (), (), (), (), (), (), (), ())


def compare(old: Policy, new: Policy) -> Diff:
    return diff(effective(old, TODAY), effective(new, TODAY))


@settings(max_examples=30)
@given(policies(), policies())
def test_every_format_tells_of_every_part(old: Policy, new: Policy) -> None:
    found = compare(old, new)
    parts = (
        found.gained,
        found.lost,
        found.phases,
        found.added,
        found.removed,
        found.changes,
    )
    rows = sum(map(len, parts)) + len({(m.old_rule, m.reach.rule) for m in found.moved})

    data = json.loads(json.dumps(diff_data(found)))
    assert [len(data[name]) for name in ("gained", "lost", "moved", "phases")] == [
        len(part) for part in (found.gained, found.lost, found.moved, found.phases)
    ]
    assert data["changes_access"] is found.changes_access
    text = diff_text(found)
    titles = text.count("\n\n")
    assert sum(bool(re.match(r"[-+~=] ", line)) for line in text.splitlines()) == rows + titles
    table = [line for line in markdown(found).splitlines() if line.startswith("| ")]
    assert len(table) == rows + 2 * titles


def test_nothing_is_said_in_one_sentence() -> None:
    said = "Nobody reaches or may do more than before, or less."

    assert diff_text(NOTHING) == f"{said}\n"
    assert markdown(NOTHING) == f"### Who may reach whom\n\n{said}\n"


def test_markdown_begins_with_the_summary_and_then_who_is_newly_reachable() -> None:
    fewer = replace(REAL, access=REAL.access[:1])

    lines = markdown(compare(fewer, REAL)).splitlines()

    assert lines[:3] == ["### Who may reach whom", "", "27 newly reachable."]
    assert lines[4] == "#### Newly reachable"
    assert lines[6] == "| source | destination | port | rule | at | note |"


@pytest.mark.parametrize("budget", [1_000, 5_000, BUDGET])
def test_markdown_stays_within_its_budget_and_counts_what_it_leaves_out(budget: int) -> None:
    services = tuple(
        replace(one, name=f"{one.name}-{number}", service_account=None)
        for number in range(200)
        for one in REAL.services
    )
    found = compare(REAL, replace(REAL, services=(*REAL.services, *services)))
    found = replace(found, changes=(Change("mesh", "x", "|" * 400, "", access=True),) * 100)

    text = markdown(found, budget)

    assert len(text) <= budget
    left = text.splitlines()[-1]
    assert left.startswith("Left out for length: ")
    rows = sum(line.startswith("| ") for line in text.splitlines())
    titles = text.count("####")
    omitted = sum(int(number) for number in re.findall(r"(\d+) of ", left))
    assert rows - 2 * titles + omitted == len(found.added) + len(found.changes)


def test_what_a_policy_says_cannot_become_markup() -> None:
    claim = ClaimSelector("groups", "a|b <img src=x> @everyone [x](y) `z`")
    binding = OperatorRoleBinding("team", "sre", claims=(claim,))

    text = markdown(compare(REAL, replace(REAL, bindings=(*REAL.bindings, binding))))

    row = next(line for line in text.splitlines() if "groups=" in line)
    assert row.count("|") == 5
    assert not set("<@[`") & set(row)


def test_enforcement_says_who_still_passes() -> None:
    rollout = REAL.rollout
    assert rollout is not None
    observe = replace(REAL, rollout=replace(rollout, current="observe"))

    further, less = compare(observe, REAL), compare(REAL, observe)

    assert "redis  " in diff_text(further)
    assert "observe  enforce  refuses all but iam" in diff_text(further)
    assert "lets everyone pass and records it; granted: iam" in diff_text(less)
    assert {change.new for change in further.phases} == {Phase.ENFORCE}
