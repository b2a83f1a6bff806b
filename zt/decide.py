"""The decision: may this identity call that port?

``decide`` is a pure function of a table, and the reference that no plane may be wider than. Its
cost does not depend on the number of rules: each identity knows the few selectors (its own ID and
the patterns that name it) under which rules about it are filed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from zt.effective import EXTERNAL, NamedRule, phase_of, rules_in_force
from zt.model import Destination, Phase, Policy, Source, matches_service


class Verdict(StrEnum):
    """The answer."""

    ALLOW = "ALLOW"
    DENY = "DENY"


class Reason(StrEnum):
    """Why the answer is what it is."""

    RULE = "rule"
    NO_RULE = "no_rule"
    UNKNOWN_SOURCE = "unknown_source"
    UNKNOWN_DESTINATION = "unknown_destination"
    PORT_NOT_DECLARED = "port_not_declared"


DEFAULT_RULE = "default"


@dataclass(frozen=True, slots=True)
class Decision:
    """A verdict, the rule that gave it (``default`` where none did), and the reason."""

    verdict: Verdict
    rule: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class DecisionTable:
    """A policy, indexed for decisions.

    ``selectors`` maps each declared party (a SPIFFE ID, or ``external:<name>``) to the selectors
    under which rules about it are filed; ``ports`` to the ports that it declares; ``grants`` maps
    (source selector, destination selector, port) to an index into ``rules``. ``phases`` is not part
    of the decision: it says what an enforcement point does with it.
    """

    selectors: Mapping[str, tuple[str, ...]]
    ports: Mapping[str, frozenset[int]]
    grants: Mapping[tuple[str, str, int], int]
    rules: tuple[str, ...]
    phases: Mapping[str, Phase]


EMPTY_TABLE = DecisionTable({}, {}, {}, (), {})


def decide(table: DecisionTable, source: str, destination: str, port: int) -> Decision:
    """Decide one connection; the first rule in order that grants it is the one reported."""
    source_selectors = table.selectors.get(source)
    if source_selectors is None:
        return _deny(Reason.UNKNOWN_SOURCE)
    destination_selectors = table.selectors.get(destination)
    if destination_selectors is None:
        return _deny(Reason.UNKNOWN_DESTINATION)
    if port not in table.ports[destination]:
        return _deny(Reason.PORT_NOT_DECLARED)
    found = [
        index
        for source_selector in source_selectors
        for destination_selector in destination_selectors
        if (index := table.grants.get((source_selector, destination_selector, port))) is not None
    ]
    if not found or source == destination:
        return _deny(Reason.NO_RULE)
    return Decision(Verdict.ALLOW, table.rules[min(found)], Reason.RULE)


def _deny(reason: Reason) -> Decision:
    return Decision(Verdict.DENY, DEFAULT_RULE, reason)


def decision_table(policy: Policy, today: date) -> DecisionTable:
    """Index a policy for decisions on a day."""
    rules = rules_in_force(policy, today)
    grants: dict[tuple[str, str, int], int] = {}
    for index, named in enumerate(rules):
        source = selector(named.rule.source)
        for item in named.rule.to:
            for port in item.ports:
                grants.setdefault((source, selector(item), port), index)
    mesh = policy.mesh
    ports = {
        service.spiffe(mesh): frozenset(port.port for port in service.ports)
        for service in policy.services
    } | {EXTERNAL + external.name: frozenset(external.ports) for external in policy.externals}
    return DecisionTable(
        selectors=_selectors(policy, rules),
        ports=ports,
        grants=grants,
        rules=tuple(named.name for named in rules),
        phases={service.spiffe(mesh): phase_of(policy, service) for service in policy.services},
    )


def selector(side: Source | Destination) -> str:
    """What a side of a rule is filed under."""
    if side.external is not None:
        return EXTERNAL + side.external
    return str(side.spiffe)


def _selectors(policy: Policy, rules: Iterable[NamedRule]) -> dict[str, tuple[str, ...]]:
    """Each party's own ID and the patterns of rules that name it."""
    patterns = {
        side.spiffe
        for named in rules
        for side in _sides(named)
        if side.spiffe is not None and not side.spiffe.is_exact
    }
    named_by: dict[str, list[str]] = defaultdict(list)
    for pattern in sorted(patterns, key=str):
        for service in policy.services:
            if matches_service(pattern, service, policy.mesh):
                named_by[service.spiffe(policy.mesh)].append(str(pattern))
    declared = (service.spiffe(policy.mesh) for service in policy.services)
    services = {spiffe: (spiffe, *named_by[spiffe]) for spiffe in declared}
    externals = {EXTERNAL + external.name for external in policy.externals}
    return services | {name: (name,) for name in sorted(externals)}


def _sides(named: NamedRule) -> tuple[Source | Destination, ...]:
    return (named.rule.source, *named.rule.to)
