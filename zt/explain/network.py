"""The planes that know addresses: NetworkPolicies on both sides, and the tunnel."""

from __future__ import annotations

from collections.abc import Iterator

from zt.effective import Grant
from zt.explain.call import Call, Stance, Statement, may_come_from, name
from zt.model import ExternalService, Phase, Service
from zt.wellknown import GATEWAY_LOCAL, GATEWAY_TUNNEL, server_name

_EGRESS = "NetworkPolicy egress"
_INGRESS = "NetworkPolicy ingress"
_TUNNEL = "tunnel"
_PEERS = "it knows the service's pods by address alone: no identity is proved, nothing is recorded"
_RELAY = "a gateway passes on what others send, and cannot be told from them"


def egress(call: Call) -> Iterator[Statement]:
    """What the source's pods may send."""
    source, destination = call.source, call.destination
    if not isinstance(source, Service) or source.outside is not None:
        yield Statement(_EGRESS, Stance.ABSENT, "the source is no pod of the mesh")
    elif not call.is_enforced(source):
        item = call.service(source)
        phase = item.phase if item else call.phase
        yield Statement(_EGRESS, Stance.OPEN, f"{name(source)} is in phase {phase}")
    elif isinstance(destination, ExternalService):
        yield _to_external(call, source, destination)
    elif isinstance(destination, Service):
        yield _to_service(call, source, destination)
    else:
        why = f"{source.name}-egress names nobody that is called {call.destination_id}"
        yield Statement(_EGRESS, Stance.REFUSES, why)


def _to_service(call: Call, source: Service, destination: Service) -> Statement:
    policy = f"{source.name}-egress"
    if call.allowed:
        to = f"{name(destination)} port {call.port}"
        if call.crosses():
            to = f"the WireGuard gateway of {source.cluster} port {GATEWAY_LOCAL}"
        return Statement(_EGRESS, Stance.ALLOWS, f"{policy} lets it to {to} ({call.rule_name})")
    if call.crosses():
        return _denied_crossing(call, source)
    if call.among_peers():
        return _to_peers(_EGRESS, f"{policy} lets its pods reach each other", call)
    if not call.is_enforced(destination):
        why = f"{policy} does not cut {name(destination)}, which is not enforced yet"
        return Statement(_EGRESS, Stance.OPEN, why)
    relayed = _relayed(call, destination) if _is_gateway(call, source) else None
    if relayed:
        why = f"{policy} lets it there for {name(relayed.source)} ({relayed.rule.name})"
        return Statement(_EGRESS, Stance.OPEN, why, _RELAY)
    return Statement(_EGRESS, Stance.REFUSES, f"{policy} has no rule for it")


def _to_peers(plane: str, what: str, call: Call) -> Statement:
    return Statement(plane, Stance.ALLOWS, f"{what} on port {call.port} (peerPorts)", _PEERS)


def _is_gateway(call: Call, party: Service) -> bool:
    return party.name == call.effective.mesh.infrastructure.gateway


def _relayed(call: Call, destination: Service) -> Grant | None:
    """Whose connections to the port come from the pods of the destination's gateway."""
    inbound = call.inbound()
    for grant in inbound.clients if inbound else ():
        if isinstance(grant.source, Service) and (
            grant.source.cluster != destination.cluster or _is_gateway(call, grant.source)
        ):
            return grant
    return None


def _denied_crossing(call: Call, source: Service) -> Statement:
    gateway = call.effective.find(source.cluster, call.effective.mesh.infrastructure.gateway)
    if gateway and gateway.phase is not Phase.ENFORCE:
        why = f"the WireGuard gateway of {source.cluster} is in phase {gateway.phase}"
        return Statement(_EGRESS, Stance.OPEN, why, _RELAY)
    item = call.service(source)
    for grant in item.upstreams if item else ():
        other = grant.destination
        if isinstance(other, Service) and other.cluster != source.cluster:
            why = f"{source.name} may call the WireGuard gateway, for {name(other)}"
            return Statement(_EGRESS, Stance.OPEN, why, _RELAY)
    return Statement(_EGRESS, Stance.REFUSES, f"{source.name}-egress has no rule for it")


def _to_external(call: Call, source: Service, destination: ExternalService) -> Statement:
    """Networks are held here; names by the sidecar, which an application can go around."""
    policy = f"{source.name}-egress"
    if not call.allowed:
        return _denied_external(call, source, destination)
    if destination.cidrs:
        networks = ", ".join(map(str, destination.cidrs))
        why = f"{policy} lets it to {networks} port {call.port} ({call.rule_name})"
        return Statement(_EGRESS, Stance.ALLOWS, why)
    hosts = ", ".join(destination.hosts)
    why = f"{policy} lets it to port {call.port} of all that is outside ({call.rule_name})"
    weaker = (
        f"it cannot hold host names: the sidecar passes {hosts} by SNI, for who goes through it"
    )
    return Statement(_EGRESS, Stance.ALLOWS, why, weaker)


def _denied_external(call: Call, source: Service, destination: ExternalService) -> Statement:
    item = call.service(source)
    for grant in item.externals if item else ():
        other = grant.destination
        if isinstance(other, ExternalService) and grant.port == call.port:
            by_name = not other.cidrs or not destination.cidrs
            if by_name or any(a.overlaps(b) for a in other.cidrs for b in destination.cidrs):
                why = f"{source.name} may call {name(other)} port {call.port} ({grant.rule.name})"
                return Statement(_EGRESS, Stance.OPEN, why, "some addresses may be the same")
    return Statement(_EGRESS, Stance.REFUSES, f"{source.name}-egress has no rule for it")


def ingress(call: Call) -> Iterator[Statement]:
    """What the destination's pods may receive."""
    destination = call.destination
    if not isinstance(destination, Service) or destination.outside is not None:
        yield Statement(_INGRESS, Stance.ABSENT, "the destination is no pod of the mesh")
    elif not call.is_enforced(destination):
        yield Statement(_INGRESS, Stance.OPEN, f"{name(destination)} is in phase {call.phase}")
    elif call.allowed:
        yield _let_in(call, destination)
    else:
        yield _kept_out(call, destination)


def _let_in(call: Call, destination: Service) -> Statement:
    policy, source = f"{destination.name}-ingress", call.source
    weaker = ""
    if isinstance(source, ExternalService):
        peer = f"{', '.join(map(str, source.cidrs))}, without pods,"
    elif call.crosses():
        peer = f"the pods of the WireGuard gateway of {destination.cluster}"
        weaker = "it sees the gateway only: the handshake tells who is behind it"
    else:
        peer = f"the pods of {name(source)}" if source else ""
    why = f"{policy} lets in {peer} on port {call.port} ({call.rule_name})"
    return Statement(_INGRESS, Stance.ALLOWS, why, weaker)


def _kept_out(call: Call, destination: Service) -> Statement:
    policy = f"{destination.name}-ingress"
    if call.among_peers():
        return _to_peers(_INGRESS, f"{policy} lets its own pods in", call)
    if call.inbound() is None:
        why = f"{policy} does not name port {call.port}, which nothing declares"
        return Statement(_INGRESS, Stance.REFUSES, why)
    grant = _same_address(call, destination)
    if grant is None:
        return Statement(_INGRESS, Stance.REFUSES, f"{policy} does not name the source")
    why = f"{policy} lets in {name(grant.source)} ({grant.rule.name}) from the same addresses"
    return Statement(_INGRESS, Stance.OPEN, why, "it sees addresses, not identities")


def _same_address(call: Call, destination: Service) -> Grant | None:
    """Whom the policy lets in from where the source, too, would come."""
    inbound, source = call.inbound(), call.source
    if inbound is None:
        return None
    if isinstance(source, Service) and (call.crosses() or _is_gateway(call, source)):
        return _relayed(call, destination)
    for grant in inbound.externals:
        other = grant.source
        if (
            isinstance(other, ExternalService)
            and isinstance(source, ExternalService)
            and may_come_from(source, other)
        ):
            return grant
    return None


def tunnel(call: Call) -> Iterator[Statement]:
    """How it crosses from one cluster to another, where it does."""
    source, destination = call.source, call.destination
    if not (isinstance(source, Service) and isinstance(destination, Service) and call.crosses()):
        return
    sni = server_name(call.port, destination.name, destination.namespace, destination.cluster)
    closed = _closed(call, source, destination)
    if closed:
        yield Statement(_TUNNEL, Stance.REFUSES, closed)
    elif not _has_route(call, source, destination):
        yield Statement(_TUNNEL, Stance.REFUSES, f"no gateway has a route for SNI {sni}")
    else:
        why = f"TLS passes {_way(source, destination)} by SNI {sni}"
        if call.allowed:
            yield Statement(_TUNNEL, Stance.ALLOWS, why)
        else:
            weaker = "gateways pass TLS by SNI, and do not ask who comes"
            yield Statement(_TUNNEL, Stance.OPEN, why, weaker)


def _closed(call: Call, source: Service, destination: Service) -> str:
    """Why no connection at all takes this way."""
    ends = (destination.cluster,) if source.outside else (source.cluster, destination.cluster)
    for cluster in ends:
        found = call.effective.mesh.cluster(cluster)
        if found is None or found.gateway is None:
            return f"{cluster} has no gateway"
    if source.outside and not source.outside.cidrs:
        return f"{name(source)} does not say from which cidrs it calls, so no gateway lets it in"
    return ""


def _way(source: Service, destination: Service) -> str:
    if source.outside:
        return f"to the gateway of {destination.cluster}, port {GATEWAY_TUNNEL}, outside WireGuard,"
    return (
        f"through WireGuard from the gateway of {source.cluster} to that of {destination.cluster}"
    )


def _has_route(call: Call, source: Service, destination: Service) -> bool:
    """Whether a rule lets any service take the same way to the same port."""
    inbound = call.inbound()
    return any(
        isinstance(grant.source, Service)
        and grant.source.cluster != destination.cluster
        and (grant.source.cluster == source.cluster or source.outside is not None)
        for grant in (inbound.clients if inbound else ())
    )
