"""The rollout: its steps, the one in force, and the services that go their own way."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from zt.check.facts import Facts
from zt.check.report import error, listed, repeated, warning
from zt.effective import phase_of
from zt.model import Phase, Rollout, RolloutPhase
from zt.position import Finding

_ORDER = (Phase.OBSERVE, Phase.CANARY, Phase.ENFORCE)


def check(facts: Facts) -> Iterator[Finding]:
    """Names that are not there, steps back, and canaries of one."""
    rollout = facts.policy.rollout
    if rollout is None:
        return
    yield from _steps(rollout)
    yield from _current(facts, rollout)
    yield from _exceptions(facts, rollout)
    yield from _canaries(facts, rollout)


def _steps(rollout: Rollout) -> Iterator[Finding]:
    for index, name in repeated(step.name for step in rollout.phases):
        where = rollout.phases[index].where.field("name")
        yield error("duplicate-name", where, f"step {name!r} is there twice: rename one of them")
    for before, step in pairwise(rollout.phases):
        yield from _step(before, step)


def _step(before: RolloutPhase, step: RolloutPhase) -> Iterator[Finding]:
    pairs = (
        ("critical", _ORDER.index(before.critical), _ORDER.index(step.critical)),
        ("nonCritical", _ORDER.index(before.non_critical), _ORDER.index(step.non_critical)),
        ("declaredOnly", int(before.declared_only), int(step.declared_only)),
    )
    for field, earlier, later in pairs:
        if later < earlier:
            message = (
                f"step {step.name!r} enforces less than {before.name!r} before it: {field} goes "
                "backwards"
            )
            yield warning("phase-backwards", step.where.field(field), message)
    if all(earlier == later for _, earlier, later in pairs):
        message = f"step {step.name!r} is the same as {before.name!r} before it: take one away"
        yield warning("duplicate-step", step.where.field("name"), message)


def _current(facts: Facts, rollout: Rollout) -> Iterator[Finding]:
    if rollout.step() is None:
        hint = facts.hints.name(rollout.current, [step.name for step in rollout.phases])
        message = f"{rollout.current!r} is no step of the rollout{hint}"
        yield error("unknown-step", rollout.where.field("current"), message)


def _exceptions(facts: Facts, rollout: Rollout) -> Iterator[Finding]:
    for item in rollout.services:
        if item.service not in facts.by_name:
            hint = facts.hints.name(item.service, facts.by_name)
            message = f"{item.service!r} is no Service{hint}"
            yield error("unknown-service", item.where.field("service"), message)
    for index, name in repeated(item.service for item in rollout.services):
        where = rollout.services[index].where.field("service")
        yield error("duplicate-name", where, f"{name!r} has two phases: take one away")


def _canaries(facts: Facts, rollout: Rollout) -> Iterator[Finding]:
    """A canary enforces on one replica, so it takes two to have one."""
    excepted = {item.service: item for item in rollout.services}
    alone = [
        service.name
        for service in facts.policy.services
        if service.replicas == 1 and phase_of(facts.policy, service) is Phase.CANARY
    ]
    reason = "a canary is one replica of several: use observe or enforce"
    for name in alone:
        if name in excepted:
            where = excepted[name].where.field("phase")
            yield warning("lone-canary", where, f"{name!r} runs one replica, and {reason}")
    others = [name for name in alone if name not in excepted]
    if others:
        message = (
            f"step {rollout.current!r} is a canary for {listed(others)} with one replica each, and "
            f"{reason}"
        )
        yield warning("lone-canary", rollout.where.field("current"), message)
