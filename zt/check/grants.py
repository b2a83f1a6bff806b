"""What the rules grant together: twice, for nothing, or not for long."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta

from zt.check.facts import Facts
from zt.check.report import listed, warning
from zt.effective import NamedRule, Party
from zt.model import Destination
from zt.position import Finding

SOON = timedelta(days=14)


def check(facts: Facts) -> Iterator[Finding]:
    """Duplicate and shadowed rules, services that no rule names, last days."""
    ledger = _Ledger(facts)
    for named in facts.in_force:
        yield from ledger.enter(named)
    yield from _idle(facts, ledger)
    for named in facts.rules:
        if named.rule.expires is not None:
            yield from _last_day(named, named.rule.expires, facts.today)


class _Ledger:
    """The rule of each granted edge, where an edge is two parties and a port.

    Of several rules the one that holds longest counts: a grant that ends makes none that stays
    superfluous. Parties are numbered, so that an edge is one integer.
    """

    def __init__(self, facts: Facts) -> None:
        self._parties = facts.parties
        everybody: tuple[Party, ...] = (*facts.policy.services, *facts.policy.externals)
        self._number = {id(party): number for number, party in enumerate(everybody)}
        self._count = len(everybody)
        self._rules: dict[int, NamedRule] = {}
        self._used: set[int] = set()

    def is_used(self, party: Party) -> bool:
        """Whether a rule lets a party call or be called."""
        return self._number[id(party)] in self._used

    def enter(self, named: NamedRule) -> Iterator[Finding]:
        """Enter a rule; the findings where it grants nothing that wasn't granted."""
        parts = [self._edges(named, destination) for destination in named.rule.to]
        if len(parts) > 1:
            yield from _within(named, parts)
        edges = [edge for part in parts for edge in part]
        before = [self._rules.get(edge) for edge in edges]
        if before and all(rule is not None and _outlasts(rule, named) for rule in before):
            yield _superfluous(named, [rule for rule in before if rule is not None])
            return
        for edge, rule in zip(edges, before, strict=True):
            if rule is None or not _outlasts(rule, named):
                self._rules[edge] = named

    def _edges(self, named: NamedRule, destination: Destination) -> list[int]:
        callers = [self._number[id(party)] for party in self._parties.of(named.rule.source)]
        edges: list[int] = []
        for party in self._parties.of(destination):
            called = self._number[id(party)]
            ports = list(self._parties.declared(party, destination.ports))
            for caller in callers:
                if ports and caller != called:
                    self._used.update((caller, called))
                    pair = caller * self._count + called
                    edges.extend(pair << 16 | port for port in ports)
        return edges


def _outlasts(rule: NamedRule, other: NamedRule) -> bool:
    """Whether a rule holds at least as long as another."""
    mine, theirs = rule.rule.expires, other.rule.expires
    return mine is None or (theirs is not None and mine >= theirs)


def _superfluous(named: NamedRule, before: list[NamedRule]) -> Finding:
    others = list(dict.fromkeys(before))
    rule, where = named.rule, named.rule.where
    if any(rule.source == other.rule.source and rule.to == other.rule.to for other in others):
        message = f"it repeats {others[0].name} ({others[0].rule.where}): take one away"
        return warning("duplicate-rule", where, message, named.name)
    names = listed(f"{other.name} ({other.rule.where})" for other in others)
    message = f"it grants nothing that {names} did not grant before: take it away"
    return warning("shadowed-rule", where, message, named.name)


def _within(named: NamedRule, parts: list[list[int]]) -> Iterator[Finding]:
    """Destinations of a rule that add nothing to those above them."""
    seen: set[int] = set()
    for destination, edges in zip(named.rule.to, parts, strict=True):
        if edges and seen.issuperset(edges):
            message = "the destinations above grant all of this: take it away"
            yield warning("duplicate-grant", destination.where, message, named.name)
        seen.update(edges)


def _idle(facts: Facts, ledger: _Ledger) -> Iterator[Finding]:
    """Services that neither call nor are called; the mesh itself uses its own."""
    names = facts.mesh.infrastructure
    own = {names.evaluator, names.gateway, names.metrics}
    for service in facts.policy.services:
        if service.name not in own and not ledger.is_used(service):
            message = f"no rule lets {service.name!r} call or be called: add one, or take it away"
            yield warning("idle-service", service.where.field("name"), message)


def _last_day(named: NamedRule, last: date, today: date) -> Iterator[Finding]:
    where, left = named.rule.where.field("expires"), last - today
    if last < today:
        message = f"it expired on {last} and grants nothing: take it away, or set a later day"
        yield warning("expired-rule", where, message, named.name)
    elif left <= SOON:
        days = {0: "today", 1: "tomorrow"}.get(left.days, f"in {left.days} days")
        message = f"it expires {days}, after {last}: set a later day if it is still needed"
        yield warning("expires-soon", where, message, named.name)
