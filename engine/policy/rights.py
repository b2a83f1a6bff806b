"""What certificates may do to the evaluator itself: ask about others, change policies, scrape it.

Rights are those that operators' rules give to subjects that are SPIFFE IDs. Subjects that are
people come with tokens, not with certificates, and have no place here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from zt.model import Action, OperatorRule, Policy
from zt.spiffe import SCHEME

READ, WRITE, METRICS = Action.READ.value, Action.WRITE.value, Action.METRICS.value
# Before an action: it takes evidence that a certificate can't give, so it is no right yet.
STEP_UP = "step_up:"

_ALL = "*"
_ACTIONS = (Action.READ, Action.WRITE, Action.METRICS)


def rights(policy: Policy) -> dict[str, list[str]]:
    """Actions by SPIFFE ID, sorted; ``step_up:<action>`` where every rule asks for more."""
    found: dict[str, set[str]] = defaultdict(set)
    for subject, action in (*_of_operators(policy), *_of_scrapers(policy)):
        found[subject].add(action)
    return {subject: sorted(_held(found[subject])) for subject in sorted(found)}


def _held(actions: set[str]) -> Iterator[str]:
    """The actions without those that another rule gives on easier terms."""
    for action in actions:
        if action.removeprefix(STEP_UP) == action or action.removeprefix(STEP_UP) not in actions:
            yield action


def _of_operators(policy: Policy) -> Iterator[tuple[str, str]]:
    subjects: dict[str, list[str]] = defaultdict(list)
    for binding in policy.bindings:
        subjects[binding.role].extend(who for who in binding.subjects if who.startswith(SCHEME))
    for access in policy.operators:
        for rule in access.rules:
            for subject in subjects[rule.role]:
                for action in _actions(rule, policy.mesh.infrastructure.evaluator):
                    yield subject, action


def _actions(rule: OperatorRule, evaluator: str) -> Iterator[str]:
    conditional = any(item.require_mfa or item.require_incident for item in rule.conditions)
    for target in rule.targets:
        if target.service in (_ALL, evaluator):
            for action in target.actions:
                if action in _ACTIONS:
                    yield STEP_UP + action if conditional else str(action)


def _of_scrapers(policy: Policy) -> Iterator[tuple[str, str]]:
    """Whoever scrapes the sidecars scrapes the evaluator."""
    for service in policy.services:
        if service.name == policy.mesh.infrastructure.metrics:
            yield service.spiffe(policy.mesh), METRICS
