"""What is tried, and what should come of it: every ordered pair of services on every port.

Which layer is the first to refuse decides what is left of an attempt:

- A name that leads to no upstream is looked up in DNS, and what answers there is dropped by the
  NetworkPolicies of both ends: no packet reaches a sidecar, so the trail has no record.
- Where NetworkPolicies let one through (a node reaches its own pods), the sidecar's list refuses at
  the handshake, and reports it: one record.
- What passes is decided by the evaluator, or, where it is called itself, by its API: one record.

So what is not allowed is tried twice: as the application would, and with the source's own SVID from
the node of the destination's pod.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lab.verify.attempt import PASSING, Attempt, Json, Layer, Way
from zt.decide import Decision, DecisionTable, Verdict, decide
from zt.effective import Effective, EffectiveService
from zt.model import Phase, Port, Protocol, Service
from zt.placement import ends_own_tls, names
from zt.wellknown import ALPN, server_name

# As PostgreSQL's clients begin (SSLRequest): the server says S or N, whoever asks.
_SSL_REQUEST = "\x00\x00\x00\x08\x04\xd2\x16\x2f"
# What passes may take long on a busy machine; what is dropped is waited for in vain.
_PATIENCE, _SHORT_PATIENCE = 15.0, 2.5


@dataclass(frozen=True)
class Plan:
    """All attempts from one cluster.

    ``own`` names the services that the stacks bring, whose programs are not the lab's. Without a
    ``tunnel`` nothing crosses, and there are no gateways.
    """

    effective: Effective
    table: DecisionTable
    cluster: str
    own: frozenset[str]
    tunnel: bool

    @property
    def sources(self) -> tuple[EffectiveService, ...]:
        """The services that call: those of the cluster."""
        return self.effective.in_cluster(self.cluster)

    def attempts(self) -> Iterator[Attempt]:
        """Every attempt; those by names first."""
        pairs = list(self._pairs())
        for source, destination, port in pairs:
            yield from self._by_name(source, destination, port)
        for source, destination, port in pairs:
            yield from self._by_identity(source, destination, port)

    def _pairs(self) -> Iterator[tuple[EffectiveService, EffectiveService, Port]]:
        for source in self.sources:
            for destination in self.effective.services:
                if destination is not source and destination.service.outside is None:
                    for port in destination.service.ports:
                        yield source, destination, port

    def _by_name(
        self, source: EffectiveService, destination: EffectiveService, port: Port
    ) -> Iterator[Attempt]:
        decision = self._decision(source, destination, port)
        layer = self._first_layer(source, destination, decision)
        if layer is None:
            return
        for way, host in _hosts(source.service, destination.service):
            if way is Way.NAME and layer is Layer.DNS:
                continue  # nobody's domain: whoever is asked then is not the lab's
            question = self._question(destination.service, port, passes=layer in PASSING)
            question["host"] = host
            yield Attempt(source, destination, port, way, host, layer, decision, question)

    def _by_identity(
        self, source: EffectiveService, destination: EffectiveService, port: Port
    ) -> Iterator[Attempt]:
        decision = self._decision(source, destination, port)
        if (
            decision.verdict is Verdict.ALLOW
            or destination.phase is not Phase.ENFORCE
            or not self._is_here(destination)
            or not self._is_here(source)
        ):
            return
        layer, question = self._refused(destination.service, port)
        way = Way.IDENTITY
        yield Attempt(source, destination, port, way, "", layer, decision, question)

    def _refused(self, called: Service, port: Port) -> tuple[Layer, Json]:
        """Who refuses a name that is not on the list, and what is asked of it."""
        sni = server_name(port.port, called.name, called.namespace, called.cluster)
        asked: Json = {"port": port.port, "timeout": _PATIENCE, "tls": {"serverName": sni}}
        if ends_own_tls(called, self.effective.mesh):
            return Layer.API, asked | {"mode": "http"}
        asked["tls"]["alpn"] = [ALPN]
        # Whoever speaks first must not do so here; all others are asked.
        send = "" if port.protocol is Protocol.TCP else "GET / HTTP/1.1\r\n\r\n"
        return Layer.HANDSHAKE, asked | {"mode": "raw", "send": send}

    def _decision(
        self, source: EffectiveService, destination: EffectiveService, port: Port
    ) -> Decision:
        return decide(self.table, source.spiffe, destination.spiffe, port.port)

    def _is_here(self, item: EffectiveService) -> bool:
        """Whether it runs in the cluster."""
        return item.service.cluster == self.cluster and self._runs(item)

    def _runs(self, item: EffectiveService) -> bool:
        return self.tunnel or not self._is_gateway(item)

    def _is_gateway(self, item: EffectiveService) -> bool:
        return item.service.name == self.effective.mesh.infrastructure.gateway

    def _first_layer(
        self, source: EffectiveService, destination: EffectiveService, decision: Decision
    ) -> Layer | None:
        """Who has the first word on a call by name; ``None`` where there is nothing to say."""
        if not (self._runs(source) and self._runs(destination)):
            return Layer.TUNNEL
        if decision.verdict is Verdict.ALLOW:
            reached = self.tunnel or self._is_here(destination)
            return self._deciding(destination) if reached else Layer.TUNNEL
        return self._refusing(source, destination)

    def _refusing(self, source: EffectiveService, destination: EffectiveService) -> Layer | None:
        """The same where no rule grants it."""
        if any(grant.destination is destination.service for grant in source.upstreams):
            return Layer.NO_LISTENER
        if not self._is_here(destination):
            return Layer.DNS
        if self._is_gateway(source) and _is_called_from_elsewhere(destination):
            # NetworkPolicies let it through, for it passes on what others say.
            return None
        if destination.phase is Phase.ENFORCE:
            return Layer.NETWORK_POLICY
        return self._deciding(destination)

    def _deciding(self, destination: EffectiveService) -> Layer:
        is_evaluator = ends_own_tls(destination.service, self.effective.mesh)
        return Layer.API if is_evaluator else Layer.EVALUATOR

    def _question(self, called: Service, port: Port, *, passes: bool) -> Json:
        """What its clients would ask; in vain, what is enough to make it speak."""
        asked: Json = {
            "port": port.port,
            "timeout": _PATIENCE if passes else _SHORT_PATIENCE,
        }
        match port.protocol:
            case Protocol.HTTP | Protocol.GRPC:
                return asked | {"mode": "http"}
            case Protocol.POSTGRES if called.name in self.own:
                return asked | {"mode": "raw", "send": _SSL_REQUEST}
            case Protocol.TCP if not passes:
                return asked | {"mode": "raw"}
            case Protocol.TCP:
                return asked | {"mode": "line", "greeted": True}
            case _:
                return asked | {"mode": "line"}


def _is_called_from_elsewhere(item: EffectiveService) -> bool:
    """Whether a gateway brings it connections of other places."""
    callers = (grant.source for inbound in item.inbound for grant in inbound.clients)
    return any(
        isinstance(caller, Service) and caller.cluster != item.service.cluster for caller in callers
    )


def _hosts(source: Service, destination: Service) -> Iterator[tuple[Way, str]]:
    """The names by which it is dialled: the shortest that is its own, and the full one.

    Of another cluster's DNS knows none; its own name has the cluster's behind it.
    """
    here = source.cluster == destination.cluster
    known = names(source, destination)
    yield Way.NAME, known[0] if here else known[-1]
    yield Way.FULL, f"{destination.name}.{destination.namespace}.svc.cluster.local"
