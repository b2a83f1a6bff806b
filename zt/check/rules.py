"""Both sides of each rule: they are somebody, and the ports are theirs."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from itertools import islice

from zt.check.facts import Facts
from zt.check.report import error, listed, repeated, warning
from zt.effective import NamedRule, Party
from zt.model import Destination, ExternalService, Service, Source
from zt.position import Finding
from zt.spiffe import SpiffePattern


def check(facts: Facts) -> Iterator[Finding]:
    """What is wrong with single rules."""
    sides = _Sides(facts)
    for named in facts.rules:
        source = named.rule.source
        yield from sides.problems(source, named, "from")
        if source.external is not None:
            yield from _caller(facts, source, named)
        for destination in named.rule.to:
            yield from sides.problems(destination, named, "to")
            yield from _pair(named, destination)
            yield from _self_call(facts, named, destination)
            yield from _ports(facts, named, destination)


class _Sides:
    """Finds what is wrong with a side. Few names recur in many rules, so each is judged once."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._patterns: dict[SpiffePattern, tuple[str, str] | None] = {}

    def problems(self, side: Source | Destination, named: NamedRule, key: str) -> Iterator[Finding]:
        """The findings of one side of a rule; ``key`` is its key there."""
        if side.spiffe is not None and side.external is not None:
            message = f"'{key}' has both 'spiffe' and 'external': keep one, and write a second rule"
            yield error("two-parties", side.where, message, named.name)
        elif side.spiffe is not None:
            yield from self._identity(side.spiffe, side, named)
        elif side.external is not None:
            yield from self._external(side.external, side, named)
        else:
            message = f"'{key}' names nobody: give it 'spiffe' or 'external'"
            yield error("no-party", side.where, message, named.name)

    def _identity(
        self, pattern: SpiffePattern, side: Source | Destination, named: NamedRule
    ) -> Iterator[Finding]:
        if pattern not in self._patterns:
            self._patterns[pattern] = self._judge(pattern, side)
        problem = self._patterns[pattern]
        if problem:
            code, message = problem
            yield error(code, side.where.field("spiffe"), message, named.name)

    def _judge(self, pattern: SpiffePattern, side: Source | Destination) -> tuple[str, str] | None:
        if self._facts.parties.of(side):
            return None
        ours = self._facts.mesh.trust_domain
        if pattern.trust_domain != ours:
            message = f"'{pattern}' is of trust domain {pattern.trust_domain!r}: ours is {ours!r}"
            return "foreign-trust-domain", message
        hint = self._facts.hints.identity(pattern)
        problem = "is no Service's ID" if pattern.is_exact else "names no Service"
        return "unknown-service", f"'{pattern}' {problem}{hint}"

    def _external(
        self, name: str, side: Source | Destination, named: NamedRule
    ) -> Iterator[Finding]:
        if name in self._externals:
            return
        if name in self._facts.by_name:
            service = self._facts.by_name[name][0]
            hint = f": it is a Service, so write spiffe: {service.spiffe(self._facts.mesh)}"
        else:
            hint = self._facts.hints.name(name, self._externals)
        message = f"{name!r} is no ExternalService{hint}"
        yield error("unknown-external", side.where.field("external"), message, named.name)

    @cached_property
    def _externals(self) -> frozenset[str]:
        return frozenset(external.name for external in self._facts.policy.externals)


def _caller(facts: Facts, source: Source, named: NamedRule) -> Iterator[Finding]:
    """Who calls from outside is known by its address alone."""
    for party in facts.parties.of(source):
        if isinstance(party, ExternalService) and party.hosts and not party.cidrs:
            message = (
                f"{party.name!r} has host names and no networks, and a caller cannot be told by "
                "host name: give it 'cidrs'"
            )
            yield error("caller-without-cidrs", source.where.field("external"), message, named.name)


def _pair(named: NamedRule, destination: Destination) -> Iterator[Finding]:
    source = named.rule.source
    if source.external is not None and destination.external is not None:
        message = (
            f"{source.external!r} and {destination.external!r} are both outside: the mesh holds "
            "nothing between them, so take the rule away"
        )
        yield error(
            "external-to-external", destination.where.field("external"), message, named.name
        )


def _self_call(facts: Facts, named: NamedRule, destination: Destination) -> Iterator[Finding]:
    """A destination that leads to nobody but the caller."""
    caller, called = named.rule.source.spiffe, destination.spiffe
    if caller is None or called is None:
        return
    if caller.is_exact and called.is_exact:
        if caller == called:
            message = (
                f"'{called}' calls itself: no rule grants that, and within a pod none is needed, "
                "so take it away"
            )
            yield error("self-call", destination.where.field("spiffe"), message, named.name)
    elif _leads_to_caller(facts, named.rule.source, destination):
        message = (
            f"of all that '{called}' names only the caller itself declares these ports, and no "
            "rule grants a call to itself: take it away"
        )
        yield warning("self-call", destination.where.field("spiffe"), message, named.name)


def _leads_to_caller(facts: Facts, source: Source, destination: Destination) -> bool:
    callers = facts.parties.of(source)
    called = (
        party
        for party in facts.parties.of(destination)
        if not set(destination.ports).isdisjoint(_declared(party))
    )
    return len(callers) == 1 and tuple(islice(called, 2)) == callers


def _ports(facts: Facts, named: NamedRule, destination: Destination) -> Iterator[Finding]:
    called = facts.parties.of(destination)
    if not called:
        return
    first = called[0]
    if isinstance(first, Service) and first.outside and len(called) == 1:
        message = (
            f"{first.name!r} runs outside Kubernetes, where no sidecar receives its calls: it can "
            "call, and not be called"
        )
        yield error("called-outside", destination.where.field("spiffe"), message, named.name)
        return
    declared = {port for party in called for port in _declared(party)}
    if not declared.issuperset(destination.ports):
        yield from _undeclared(named, destination, called, declared)
    if len(destination.ports) > 1:
        for index, port in repeated(destination.ports):
            message = f"port {port} is listed twice: take one away"
            where = destination.where.field("ports", index)
            yield warning("duplicate-port", where, message, named.name)


def _undeclared(
    named: NamedRule, destination: Destination, called: tuple[Party, ...], declared: set[int]
) -> Iterator[Finding]:
    who = f"'{destination.spiffe}'" if destination.spiffe else f"{destination.external!r}"
    kind = "it declares" if len(called) == 1 else "the Services that it names declare"
    known = f"{kind} {listed(sorted(declared))}" if declared else f"{kind} no port at all"
    for index, port in enumerate(destination.ports):
        if port not in declared:
            where = destination.where.field("ports", index)
            message = f"port {port} is not declared by {who}: {known}"
            yield error("port-not-declared", where, message, named.name)


def _declared(party: Party) -> tuple[int, ...]:
    if isinstance(party, Service):
        return tuple(port.port for port in party.ports)
    return party.ports
