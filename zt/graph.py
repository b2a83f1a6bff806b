"""The service graph: who may call whom, as nodes and edges. ``zt.render`` draws it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from zt.effective import Effective, Grant, Party, grants, party_id, phase_of
from zt.model import Phase, Policy, Port, Service


@dataclass(frozen=True, slots=True)
class Node:
    """A party.

    ``id`` is its SPIFFE ID or ``external:<name>``; what is external has neither cluster nor
    namespace (both ``""``), and no phase.
    """

    id: str
    name: str
    cluster: str
    namespace: str
    ports: tuple[Port, ...]
    phase: Phase | None
    critical: bool

    @property
    def is_external(self) -> bool:
        """Whether it is outside the mesh."""
        return not self.cluster


@dataclass(frozen=True, slots=True)
class Edge:
    """The source may call the destination: ``grants`` are ports, each with its rule's name.

    ``phase`` is that of the end that enforces it: the destination, or the source where the
    destination is outside the mesh.
    """

    source: str
    destination: str
    grants: tuple[tuple[int, str], ...]
    crosses: bool
    phase: Phase

    @property
    def ports(self) -> tuple[int, ...]:
        """Its ports, in order."""
        return tuple(port for port, _ in self.grants)

    @property
    def rules(self) -> tuple[str, ...]:
        """The names of its rules, each once."""
        return tuple(dict.fromkeys(rule for _, rule in self.grants))


@dataclass(frozen=True, slots=True)
class Graph:
    """Nodes by place and edges by destination, in an order that does not depend on the files."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]


def graph(effective: Effective) -> Graph:
    """The graph of a policy."""
    return Graph(tuple(_nodes(effective)), tuple(_edges(effective)))


def parties(effective: Effective) -> dict[str, Party]:
    """All services and externals by ID."""
    policy = effective.policy
    found: tuple[Party, ...] = (*policy.services, *policy.externals)
    return {party_id(party, policy.mesh): party for party in found}


def granted(effective: Effective) -> tuple[Grant, ...]:
    """Every granted edge once, by destination and port."""
    return grants(effective.policy, effective.rules)


def enforcing_phase(policy: Policy, source: Party | None, destination: Party | None) -> Phase:
    """The phase of the end that enforces an edge: the destination, unless that is external."""
    for end in (destination, source):
        if isinstance(end, Service):
            return phase_of(policy, end)
    return Phase.ENFORCE


def crosses(source: Party | None, destination: Party | None) -> bool:
    """Whether both are services, and of different clusters."""
    return (
        isinstance(source, Service)
        and isinstance(destination, Service)
        and source.cluster != destination.cluster
    )


def _nodes(effective: Effective) -> Iterator[Node]:
    for item in effective.services:
        service = item.service
        ports = tuple(inbound.port for inbound in item.inbound)
        place = service.cluster, service.namespace
        yield Node(item.spiffe, service.name, *place, ports, item.phase, service.critical)
    for external in effective.policy.externals:
        name = party_id(external, effective.mesh)
        yield Node(name, external.name, "", "", (), None, critical=False)


def _edges(effective: Effective) -> Iterator[Edge]:
    policy = effective.policy
    by_pair: dict[tuple[str, str], list[Grant]] = defaultdict(list)
    for grant in granted(effective):
        pair = party_id(grant.source, policy.mesh), party_id(grant.destination, policy.mesh)
        by_pair[pair].append(grant)
    for (source, destination), found in by_pair.items():
        ends = found[0].source, found[0].destination
        yield Edge(
            source,
            destination,
            tuple((grant.port, grant.rule.name) for grant in found),
            crosses(*ends),
            enforcing_phase(policy, *ends),
        )
