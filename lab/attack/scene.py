"""The stage: which ports are attacked, and from where.

Positions differ by whom NetworkPolicies take them for: the pod of a declared client, of a service
that may not call, a pod outside the mesh, and the node itself, which reaches its own pods whatever
the policies say. From a position that they admit, the sidecar alone is in the way.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from zt.effective import Effective, EffectiveService, Inbound
from zt.model import Phase, Protocol, Service
from zt.placement import InCluster

OUTSIDE = "outside"
# Pods that are made in the namespace outside; those of nodes have a node's name behind it.
GUEST, DISGUISED, BURGLAR, HOST = "guest", "disguised", "burglar", "host"
# In the namespace of the service whose account it runs as.
BARE = "zt-attack-bare"


@dataclass(frozen=True, slots=True)
class Place:
    """A pod of a service: ``<namespace>/<name>``, its address, and its node's name."""

    pod: str
    address: str
    node: str


@dataclass(frozen=True, slots=True)
class Position:
    """Where an attacker is: whose labels the pod has, or of which node it is."""

    pod: str
    what: str
    service: Service | None = None
    node: str | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """A declared port of an enforced service, and a pod that has it.

    ``inbound`` is the sidecar's own port behind it; ``door`` whether the outside is let in as well.
    ``clients`` are the services of its cluster that may call it.
    """

    service: Service
    spiffe: str
    port: int
    protocol: Protocol
    inbound: int
    place: Place
    door: bool
    clients: tuple[Service, ...]

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.service.name}:{self.port}"

    def admits(self, position: Position) -> bool:
        """Whether NetworkPolicies let it through to the port."""
        if position.node is not None:
            return position.node == self.place.node
        return position.service in self.clients


@dataclass(frozen=True)
class Scene:
    """One cluster. ``places`` has a pod for each service by name, ``callers`` those with a dialer.

    ``aliases`` are the addresses of Services of other names that the attacker made, by what they
    lead to: ``inside <service>:<port>`` for those in the target's namespace, which select its pods,
    ``outside <service>:<port>`` for those that name its address.
    """

    cluster: str
    effective: Effective
    places: Mapping[str, Place]
    callers: frozenset[str]
    nodes: tuple[str, ...]
    aliases: Mapping[str, str]

    @cached_property
    def targets(self) -> tuple[Target, ...]:
        """All ports that sidecars hold."""
        return tuple(self._targets())

    def _targets(self) -> Iterator[Target]:
        placement = InCluster(self.effective)
        for item in self.effective.in_cluster(self.cluster):
            place = self.places.get(item.service.name)
            held = item.phase is Phase.ENFORCE and placement.captures(item.service)
            for inbound in item.inbound if held and place else ():
                assert place  # noqa: S101 - see above
                own = placement.inbound(item.service, inbound.port.port).port
                yield _target(item, inbound, place, own)

    @cached_property
    def services(self) -> tuple[Service, ...]:
        """The services from whose pods can be dialled, by name."""
        found = (item.service for item in self.effective.in_cluster(self.cluster))
        return tuple(sorted((s for s in found if s.name in self.callers), key=lambda s: s.name))

    @cached_property
    def disguise(self) -> Service | None:
        """Who may call most of the targets."""
        return max(self.services, key=self._calls, default=None)

    @cached_property
    def bare(self) -> Service | None:
        """Who may call fewest of them, but some if there is such a one."""
        some = [service for service in self.services if self._calls(service)]
        return min(some or self.services, key=self._calls, default=None)

    def _calls(self, service: Service) -> int:
        return sum(service in target.clients for target in self.targets)

    # --- Positions --------------------------------------------------------------------------------

    def of(self, service: Service) -> Position:
        """In the pod of a service."""
        return Position(self.places[service.name].pod, f"a pod of {service.name}", service)

    def client(self, target: Target) -> Position | None:
        """In the pod of a declared client."""
        able = (service for service in target.clients if service.name in self.callers)
        found = next(able, None)
        return self.of(found) if found else None

    def stranger(self, target: Target) -> Position | None:
        """In the pod of a service that may not call the target."""
        found = self.stranger_service(target)
        return self.of(found) if found else None

    def stranger_service(self, target: Target) -> Service | None:
        """A service that may not call the target, and has a pod to dial from."""
        own = target.service
        others = (s for s in self.services if s is not own and s not in target.clients)
        return next(others, None)

    def host(self, target: Target) -> Position:
        """In the network of the target's own node."""
        node = target.place.node
        return Position(f"{OUTSIDE}/{HOST}-{node}", "the node of the pod", node=node)

    def guest(self) -> Position:
        """In a pod outside the mesh."""
        return Position(f"{OUTSIDE}/{GUEST}", "a pod outside the mesh")

    def disguised(self) -> Position:
        """In a pod outside the mesh with the labels of a service of the mesh."""
        return Position(f"{OUTSIDE}/{DISGUISED}", "a pod outside that wears a client's labels")

    def bare_pod(self) -> Position | None:
        """In a pod of a service that came to be without its sidecar."""
        if self.bare is None:
            return None
        pod = f"{self.bare.namespace}/{BARE}"
        return Position(pod, "a pod without sidecar", self.bare)


def _target(item: EffectiveService, inbound: Inbound, place: Place, own: int) -> Target:
    service = item.service
    clients = (grant.source for grant in inbound.clients)
    return Target(
        service=service,
        spiffe=item.spiffe,
        port=inbound.port.port,
        protocol=inbound.port.protocol,
        inbound=own,
        place=place,
        door=bool(inbound.externals),
        clients=tuple(
            client
            for client in clients
            if isinstance(client, Service) and client.cluster == service.cluster
        ),
    )
