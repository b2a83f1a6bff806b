"""The middle form: for each service, who may call it and what it may call.

Every back end starts here, so that all of them see the same grants. Wildcards are expanded over the
declared services alone: an identity that no Service declares is granted nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from functools import cached_property

from zt.model import (
    Destination,
    ExternalService,
    Mesh,
    Phase,
    Policy,
    Port,
    Rule,
    Service,
    Source,
    matches_service,
)
from zt.spiffe import SpiffePattern

EXTERNAL = "external:"

Party = Service | ExternalService


@dataclass(frozen=True, slots=True)
class NamedRule:
    """A rule and its name, ``<policy>/rule-<number from 1>``."""

    name: str
    rule: Rule


@dataclass(frozen=True, slots=True)
class Grant:
    """One edge: the source may call the port of the destination, because of the rule."""

    source: Party
    destination: Party
    port: int
    rule: NamedRule


@dataclass(frozen=True, slots=True)
class Inbound:
    """A declared port of a service and who may call it, by identity and from outside."""

    port: Port
    clients: tuple[Grant, ...]
    externals: tuple[Grant, ...]


@dataclass(frozen=True, slots=True)
class EffectiveService:
    """All that concerns one service."""

    service: Service
    spiffe: str
    phase: Phase
    inbound: tuple[Inbound, ...]
    upstreams: tuple[Grant, ...]
    externals: tuple[Grant, ...]


@dataclass(frozen=True)
class Effective:
    """A policy as every back end sees it."""

    policy: Policy
    services: tuple[EffectiveService, ...]
    rules: tuple[NamedRule, ...]

    @property
    def mesh(self) -> Mesh:
        """The mesh of the policy."""
        return self.policy.mesh

    def in_cluster(self, cluster: str) -> tuple[EffectiveService, ...]:
        """The services of a cluster, or of a place outside."""
        return self._by_cluster.get(cluster, ())

    def find(self, cluster: str, name: str) -> EffectiveService | None:
        """The service of that name in a cluster."""
        return self._by_name.get((cluster, name))

    @cached_property
    def _by_cluster(self) -> dict[str, tuple[EffectiveService, ...]]:
        found: dict[str, list[EffectiveService]] = defaultdict(list)
        for item in self.services:
            found[item.service.cluster].append(item)
        return {cluster: tuple(items) for cluster, items in found.items()}

    @cached_property
    def _by_name(self) -> dict[tuple[str, str], EffectiveService]:
        return {(item.service.cluster, item.service.name): item for item in self.services}


def party_id(party: Party, mesh: Mesh) -> str:
    """The SPIFFE ID of a service; ``external:<name>`` for what is outside."""
    if isinstance(party, Service):
        return party.spiffe(mesh)
    return EXTERNAL + party.name


def named_rules(policy: Policy) -> tuple[NamedRule, ...]:
    """All rules in the order in which they are consulted: by policy name, then as written."""
    return tuple(
        NamedRule(f"{access.name}/rule-{number}", rule)
        for access in policy.access
        for number, rule in enumerate(access.rules, 1)
    )


def rules_in_force(policy: Policy, today: date) -> tuple[NamedRule, ...]:
    """The rules that have not expired."""
    return tuple(named for named in named_rules(policy) if not is_expired(named.rule, today))


def is_expired(rule: Rule, today: date) -> bool:
    """Whether the last day of a rule is over."""
    return rule.expires is not None and rule.expires < today


def phase_of(policy: Policy, service: Service) -> Phase:
    """The phase of a service; without a Rollout everything is enforced."""
    rollout = policy.rollout
    if rollout is None:
        return Phase.ENFORCE
    for exception in rollout.services:
        if exception.service == service.name:
            return exception.phase
    step = rollout.step()
    if step is None:
        return Phase.ENFORCE
    return step.critical if service.critical else step.non_critical


def effective(policy: Policy, today: date) -> Effective:
    """Resolve a policy on a day."""
    rules = rules_in_force(policy, today)
    by_destination: dict[int, list[Grant]] = defaultdict(list)
    by_source: dict[int, list[Grant]] = defaultdict(list)
    for grant in grants(policy, rules):
        by_destination[id(grant.destination)].append(grant)
        by_source[id(grant.source)].append(grant)
    services = tuple(
        _service(policy, service, by_destination[id(service)], by_source[id(service)])
        for service in policy.services
    )
    return Effective(policy, services, rules)


def _service(
    policy: Policy, service: Service, called: list[Grant], calls: list[Grant]
) -> EffectiveService:
    by_port: dict[int, list[Grant]] = defaultdict(list)
    for grant in called:
        by_port[grant.port].append(grant)
    return EffectiveService(
        service=service,
        spiffe=service.spiffe(policy.mesh),
        phase=phase_of(policy, service),
        inbound=tuple(
            Inbound(
                port,
                tuple(g for g in by_port[port.port] if isinstance(g.source, Service)),
                tuple(g for g in by_port[port.port] if isinstance(g.source, ExternalService)),
            )
            for port in sorted(service.ports, key=lambda port: port.port)
        ),
        upstreams=tuple(g for g in calls if isinstance(g.destination, Service)),
        externals=tuple(g for g in calls if isinstance(g.destination, ExternalService)),
    )


def grants(policy: Policy, rules: tuple[NamedRule, ...]) -> tuple[Grant, ...]:
    """Every granted edge once, with the first rule that grants it; ordered by party and port.

    Ports that the destination does not declare grant nothing.
    """
    parties = Parties(policy)
    first: dict[tuple[int, int, int], Grant] = {}
    for named in rules:
        for source in parties.of(named.rule.source):
            for item in named.rule.to:
                for destination in parties.of(item):
                    for port in parties.declared(destination, item.ports):
                        edge = id(source), id(destination), port
                        if edge not in first and source is not destination:
                            first[edge] = Grant(source, destination, port, named)
    return tuple(sorted(first.values(), key=_order))


def _order(grant: Grant) -> tuple[str, ...]:
    return *_place(grant.destination), f"{grant.port:05}", *_place(grant.source)


def _place(party: Party) -> tuple[str, str, str]:
    if isinstance(party, Service):
        return party.cluster, party.namespace, party.name
    return "", "", party.name


class Parties:
    """Finds the parties that a side of a rule names. Patterns recur, so each is resolved once."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._exact = {
            (service.cluster, service.namespace, service.account): service
            for service in policy.services
        }
        self._external = {external.name: external for external in policy.externals}
        self._patterns: dict[SpiffePattern, tuple[Service, ...]] = {}

    def of(self, side: Source | Destination) -> tuple[Party, ...]:
        """The parties of a side; none where it names nobody."""
        if side.external is not None:
            external = self._external.get(side.external)
            return (external,) if external else ()
        if side.spiffe is None:
            return ()
        found = self._patterns.get(side.spiffe)
        if found is None:
            found = self._patterns[side.spiffe] = tuple(self._matching(side.spiffe))
        return found

    def _matching(self, pattern: SpiffePattern) -> Iterator[Service]:
        mesh = self._policy.mesh
        if pattern.is_exact:
            service = self._exact.get(pattern.segments)
            if service and pattern.trust_domain == mesh.trust_domain:
                yield service
            return
        for service in self._policy.services:
            if matches_service(pattern, service, mesh):
                yield service

    @staticmethod
    def declared(party: Party, ports: tuple[int, ...]) -> Iterator[int]:
        """Those of the ports that the party declares."""
        if isinstance(party, Service):
            return (port for port in ports if party.port(port))
        return (port for port in ports if port in party.ports)
