"""The gateways' Envoys: TLS passes through by its SNI, so that identity stays end to end.

Only edges that a rule declares have a route. From the own cluster they lead into the tunnel, from
the tunnel to the pod; whatever else arrives has no chain, and is closed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from zt.compile.envoy.resources import (
    Json,
    Sidecar,
    cluster,
    discovery_type,
    listener,
    tcp_proxy,
    tls_inspector,
)
from zt.effective import Grant
from zt.emit import note
from zt.model import Service
from zt.placement import Address
from zt.wellknown import server_name


def gateway_listeners(car: Sidecar) -> Iterator[Json]:
    """From the own cluster, and from the tunnel; nothing where this is no gateway."""
    if not _is_gateway(car):
        return
    leaving, arriving = _leaving(car), _arriving(car)
    if leaving:
        address = car.placement.gateway(car.service)
        yield _by_name("gateway-local", address, leaving, _tunnel_name)
    if arriving:
        address = car.placement.arrivals(car.service)
        yield _by_name("gateway-arrivals", address, arriving, _pod_name)


def gateway_clusters(car: Sidecar) -> Iterator[Json]:
    """The gateways of the other clusters, and the destinations in this one."""
    if not _is_gateway(car):
        return
    for name in sorted({_destination(grant).cluster for grant in _leaving(car).values()}):
        address = car.placement.tunnel(name)
        yield cluster(f"tunnel-{name}", address, discovery_type(address))
    for grant in _arriving(car).values():
        destination = _destination(grant)
        address = car.placement.upstream(car.service, destination, grant.port)
        yield cluster(_pod_name(grant), address, discovery_type(address))


def _is_gateway(car: Sidecar) -> bool:
    return car.service.name == car.mesh.infrastructure.gateway


def _leaving(car: Sidecar) -> dict[str, Grant]:
    """Edges of this cluster that end in another, by SNI."""
    here = car.service.cluster
    return _by_sni(
        grant
        for service in car.effective.in_cluster(here)
        for grant in service.upstreams
        if _destination(grant).cluster != here
    )


def _arriving(car: Sidecar) -> dict[str, Grant]:
    """Edges of other places that end in this cluster, by SNI."""
    here = car.service.cluster
    return _by_sni(
        grant
        for service in car.effective.in_cluster(here)
        for inbound in service.inbound
        for grant in inbound.clients
        if isinstance(grant.source, Service) and grant.source.cluster != here
    )


def _by_sni(grants: Iterable[Grant]) -> dict[str, Grant]:
    found: dict[str, Grant] = {}
    for grant in grants:
        to = _destination(grant)
        found.setdefault(server_name(grant.port, to.name, to.namespace, to.cluster), grant)
    return dict(sorted(found.items()))


def _by_name(
    name: str, address: Address, grants: dict[str, Grant], target: Callable[[Grant], str]
) -> Json:
    """A listener with one chain for each SNI."""
    chains = [
        note(
            {
                "name": sni,
                "filter_chain_match": {"server_names": [sni]},
                "filters": [tcp_proxy(name, target(grant))],
            },
            grant.rule.name,
        )
        for sni, grant in grants.items()
    ]
    return listener(
        name,
        address,
        "UNSPECIFIED",
        listener_filters=[tls_inspector()],
        filter_chains=chains,
    )


def _destination(grant: Grant) -> Service:
    assert isinstance(grant.destination, Service)  # noqa: S101 - only services have an SNI of ours
    return grant.destination


def _tunnel_name(grant: Grant) -> str:
    return f"tunnel-{_destination(grant).cluster}"


def _pod_name(grant: Grant) -> str:
    destination = _destination(grant)
    return f"pod-{destination.namespace}-{destination.name}-{grant.port}"
