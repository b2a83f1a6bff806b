"""Who may connect to the API: as the policy says, recorded, and no longer than it says so."""

from dataclasses import replace

import pytest

from engine.audit.outcome import Outcome
from engine.http.callers import NOT_PERMITTED, UNKNOWN_CALLER, Action, Caller, allowed
from engine.http.door import Door
from tests.engine.samples import (
    DB,
    ENGINE,
    POLICY,
    WEB,
    Desk,
    MemorySpool,
    in_force,
    with_callers,
)
from zt.decide import Verdict

OPEN = with_callers()
ENFORCED = "current: all\n  services:\n"


def door(desk: Desk) -> Door:
    return Door(desk.decider, ENGINE, 8054, "engine-1")


def phase(name: str) -> str:
    """The policy, with the evaluator itself in a phase."""
    return OPEN.replace(ENFORCED, f"{ENFORCED}    - {{service: engine, phase: {name}}}\n")


def ends(outcome: Outcome) -> tuple[str | None, str, int]:
    return outcome.source_id, outcome.destination_id, outcome.destination_port


def test_who_has_a_rule_is_admitted_and_recorded_once() -> None:
    desk = Desk(in_force(OPEN))
    caller = door(desk).admit(WEB, "10.0.0.1")
    assert caller == Caller(WEB)
    (outcome,) = desk.outcomes
    assert ends(outcome) == (WEB, ENGINE, 8054)
    assert (outcome.verdict, outcome.layer) == (Verdict.ALLOW, "api")
    assert (outcome.source_pod, outcome.source_node) == ("web-1", "n1")
    assert outcome.rule == "callers/rule-1"


@pytest.mark.parametrize("text", [OPEN, POLICY])
def test_who_has_none_is_refused_whatever_is_asked(text: str) -> None:
    desk = Desk(in_force(text))
    caller = door(desk).admit(DB, "10.9.9.9")
    assert desk.outcomes[0].verdict is Verdict.DENY
    for action in Action:
        assert allowed(caller, desk.snapshot, action, (DB, DB)) is NOT_PERMITTED


@pytest.mark.parametrize("spiffe", [None, "spiffe://hanzo.ai/east/shop/stranger"])
def test_a_stranger_is_recorded_and_stays_unknown(spiffe: str | None) -> None:
    desk = Desk(in_force(OPEN))
    caller = door(desk).admit(spiffe, "10.0.0.1")
    assert desk.outcomes[0].verdict is Verdict.DENY
    assert allowed(caller, desk.snapshot, Action.DESCRIBE) is UNKNOWN_CALLER


def test_in_observe_everybody_may_connect_and_it_is_recorded_what_would_be() -> None:
    desk = Desk(in_force(phase("observe")))
    assert door(desk).admit(DB, "10.0.0.2").refused is None
    (outcome,) = desk.outcomes
    assert (outcome.verdict, outcome.would_be) == (Verdict.ALLOW, Verdict.DENY)


def test_in_canary_the_first_pod_enforces() -> None:
    desk = Desk(in_force(phase("canary")))
    canaries = {ENGINE: "engine-1"}
    desk.decider.view = replace(
        desk.decider.view, locations=replace(desk.locations, canaries=canaries)
    )
    first, second = door(desk), replace(door(desk), replica="engine-2")
    assert first.admit(DB, "10.0.0.2").refused is NOT_PERMITTED
    assert second.admit(DB, "10.0.0.2").refused is None


def test_a_connection_that_cannot_be_recorded_is_refused() -> None:
    desk = Desk(in_force(OPEN), spool=MemorySpool(available=False))
    assert door(desk).admit(WEB, "10.0.0.1").refused is NOT_PERMITTED


def test_a_policy_that_says_otherwise_ends_a_connection_and_is_recorded() -> None:
    desk = Desk(in_force(OPEN))
    opened = door(desk)
    caller, refused = opened.admit(WEB, "10.0.0.1"), opened.admit(DB, "10.0.0.2")
    assert opened.still_admits(caller, "10.0.0.1")
    assert opened.still_admits(refused, "10.0.0.2")
    assert len(desk.outcomes) == 2, "nothing changed"
    desk.decider.view = replace(desk.decider.view, snapshot=in_force(POLICY))
    assert not opened.still_admits(caller, "10.0.0.1")
    assert opened.still_admits(refused, "10.0.0.2")
    assert [outcome.verdict for outcome in desk.outcomes[2:]] == [Verdict.DENY]
