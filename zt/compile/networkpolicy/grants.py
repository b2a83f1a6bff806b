"""What the rules grant to one service, as flows to and from its pods."""

from __future__ import annotations

from collections.abc import Iterator

from zt.compile.networkpolicy.objects import Flow, Port
from zt.compile.networkpolicy.view import View
from zt.effective import EffectiveService, Grant, party_id
from zt.model import ExternalService, Service
from zt.wellknown import GATEWAY_LOCAL


def from_clients(view: View, item: EffectiveService) -> Iterator[Flow]:
    """Who may call a service: pods of this cluster, the gateway for others, and networks."""
    for inbound in item.inbound:
        for grant in view.in_order((*inbound.clients, *inbound.externals)):
            yield from _from_client(view, grant, Port(grant.port))


def _from_client(view: View, grant: Grant, port: Port) -> Iterator[Flow]:
    source = grant.source
    if isinstance(source, ExternalService):
        for block in view.sources(source.cidrs):
            yield Flow(block, port, f"{grant.rule.name}: {source.name}")
    elif view.is_here(source):
        yield Flow(view.pods(source), port, grant.rule.name)
    elif view.gateway:
        why = f"{grant.rule.name}: {party_id(source, view.effective.mesh)} through the gateway"
        yield Flow(view.pods(view.gateway), port, why)


def among_peers(view: View, service: Service) -> Iterator[Flow]:
    """The pods of one service, on ports that no sidecar listens on.

    The one thing that no decision stands behind: it is between pods of the same identity.
    """
    for port in service.peer_ports:
        yield Flow(view.pods(service), Port(port), f"peerPorts of {service.name}: its own pods.")


def to_upstreams(view: View, item: EffectiveService) -> Iterator[Flow]:
    """Which services a service may call; those of other clusters through the gateway."""
    for grant in view.in_order(item.upstreams):
        if isinstance(grant.destination, ExternalService):
            continue
        if view.is_here(grant.destination):
            yield Flow(view.pods(grant.destination), Port(grant.port), grant.rule.name)
        elif view.gateway:
            yield Flow(view.pods(view.gateway), Port(GATEWAY_LOCAL), crossing(view, grant))


def crossing(view: View, grant: Grant) -> str:
    """Why a pod talks with the gateway, whose Envoy passes on only what a rule declares."""
    called = party_id(grant.destination, view.effective.mesh)
    return f"{grant.rule.name}: {called} port {grant.port} through the gateway"


def to_externals(view: View, item: EffectiveService) -> Iterator[Flow]:
    """What a service may call outside the mesh."""
    for grant in view.in_order(item.externals):
        external = grant.destination
        if not isinstance(external, ExternalService):
            continue
        why = f"{grant.rule.name}: {external.name}"
        blocks = view.destinations(external.cidrs)
        if not external.cidrs:
            why += f" ({', '.join(external.hosts)}: the sidecar holds the names)"
            blocks = view.elsewhere()
        for block in blocks:
            yield Flow(block, Port(grant.port), why)
