"""What goes out: the application dials an upstream by name and reaches its sidecar on loopback.

A service of the mesh is dialled with our SVID, and must show its own ID. A host outside is reached
by the names that its ExternalService declares, read from the TLS that the application speaks.
"""

from __future__ import annotations

from collections.abc import Iterator

from zt.compile.envoy.resources import (
    Json,
    Sidecar,
    blank_address,
    cluster,
    discovery_type,
    listener,
    tcp_proxy,
    tls_inspector,
    upstream_tls,
)
from zt.effective import Grant
from zt.emit import Filled, Form, blank, note
from zt.model import ExternalService, Service
from zt.wellknown import server_name


def outbound_listeners(car: Sidecar) -> Iterator[Json]:
    """A loopback listener for each port of each upstream."""
    name = blank("name")
    form = Form(
        listener(name, blank_address(), "OUTBOUND", filter_chains=[_chain(tcp_proxy(name, name))])
    )
    for grant in car.own.upstreams:
        address = car.placement.outbound(car.service, grant.destination, grant.port)
        filled = form.fill(name=_upstream_name(grant), host=address.host, port=address.port)
        yield _noted(grant, filled)
    for grant in _by_host(car):
        yield _noted(grant, _external_listener(car, grant))


def outbound_clusters(car: Sidecar) -> Iterator[Json | Filled]:
    """Each port of each upstream, over the mesh's TLS; each host outside."""
    transport = upstream_tls(car, blank("peer"), blank("sni"))
    form = Form(cluster(blank("name"), blank_address(), blank("type"), transport_socket=transport))
    for grant in car.own.upstreams:
        to = _service(grant)
        address = car.placement.upstream(car.service, to, grant.port)
        yield form.fill(
            name=_upstream_name(grant),
            type=discovery_type(address),
            host=address.host,
            port=address.port,
            peer=to.spiffe(car.mesh),
            sni=server_name(grant.port, to.name, to.namespace, to.cluster),
        )
    for grant in _by_host(car):
        external = _external(grant)
        for host in external.hosts:
            address = car.placement.external(external, host, grant.port)
            yield cluster(_host_name(grant, host), address, discovery_type(address))


def _chain(*filters: Json) -> Json:
    return {"filters": list(filters)}


def _external_listener(car: Sidecar, grant: Grant) -> Json:
    """One chain for each declared host name; any other name is refused."""
    external = _external(grant)
    chains = [
        {
            "name": host,
            "filter_chain_match": {"server_names": [host]},
            "filters": [tcp_proxy(_host_name(grant, host), _host_name(grant, host))],
        }
        for host in external.hosts
    ]
    return listener(
        f"outbound-{external.name}-{grant.port}",
        car.placement.outbound(car.service, external, grant.port),
        "OUTBOUND",
        listener_filters=[tls_inspector()],
        filter_chains=chains,
    )


def _by_host(car: Sidecar) -> Iterator[Grant]:
    """What is outside and has names; what has addresses alone is left to the NetworkPolicy."""
    return (grant for grant in car.own.externals if _external(grant).hosts)


def _noted(grant: Grant, resource: Json | Filled) -> Json:
    return note(resource, grant.rule.name)  # type: ignore[return-value]


def _service(grant: Grant) -> Service:
    assert isinstance(grant.destination, Service)  # noqa: S101 - what `upstreams` holds
    return grant.destination


def _external(grant: Grant) -> ExternalService:
    assert isinstance(grant.destination, ExternalService)  # noqa: S101 - what `externals` holds
    return grant.destination


def _upstream_name(grant: Grant) -> str:
    destination = _service(grant)
    return f"outbound-{destination.cluster}-{destination.namespace}-{destination.name}-{grant.port}"


def _host_name(grant: Grant, host: str) -> str:
    return f"outbound-{_external(grant).name}-{host}-{grant.port}"
