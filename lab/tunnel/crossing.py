"""Declared edges between clusters pass, with the caller's ID in the trail; nothing else does."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

from components.audit.in_cluster import SERVICE as AUDIT_DATABASE
from lab.check.model import BrokenError, Check, Json, Judge, Place, Site, all_of, asking
from lab.services.dialing import UNREACHABLE
from lab.tunnel.site import Tunnels
from lab.verify.trail import Record, trail_of
from zt.effective import Grant
from zt.model import Port, Service
from zt.wellknown import ALPN, GATEWAY_LOCAL, server_name

# PostgreSQL, "Message Formats", SSLRequest.
_SSL_REQUEST = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"
_PATIENCE, _REFUSED = 15.0, 3.0
# Clocks of pods and of this process are the machine's, but records are dated when they are made.
_BEFORE = timedelta(seconds=1)


def crossing(tunnels: Tunnels) -> Iterator[Check]:
    """Every declared edge that leaves a cluster, and what each pod may not reach beyond."""
    sites = {name: tunnels.site(name) for name in tunnels.lab.clusters}
    for site in sites.values():
        tunnels.say(f"{site.cluster}: what it may call beyond the tunnel, and what not")
        yield from all_of("crosses the tunnel", _declared(tunnels, site, sites))
        yield from all_of("stays on its side", _undeclared(site, sites))


def _declared(tunnels: Tunnels, site: Site, sites: dict[str, Site]) -> Iterator[tuple[str, Judge]]:
    gateway = site.effective.mesh.infrastructure.gateway
    for place in site.places:
        for grant in place.declared.upstreams:
            target = grant.destination
            if not isinstance(target, Service) or target.cluster not in sites.keys() - {
                site.cluster
            }:
                continue
            if place.declared.service.name != gateway and sites[target.cluster].of(target.name):
                judge = partial(_crosses, tunnels, site, place, target, grant)
                yield f"{place.name} to {_id(target)}:{grant.port}", judge


def _crosses(tunnels: Tunnels, site: Site, place: Place, target: Service, grant: Grant) -> str:
    begun = datetime.now(UTC) - _BEFORE
    asked = {**_asking(target, grant.port), "timeout": _PATIENCE}
    answer = site.ask(place, host=_id(target), port=grant.port, **asked)
    if not answer["ok"]:
        raise BrokenError(f"it may, and does not: {str(answer)[:200]}")

    def is_it(record: Record) -> bool:
        destination = record.destination_id, record.destination_port
        return (record.source_id, record.verdict) == (place.declared.spiffe, "ALLOW") and (
            destination == (target.spiffe(site.effective.mesh), grant.port)
        )

    rule = _recorded(tunnels, target.cluster, begun, is_it)
    return f"{answer['seconds'] * 1000:.1f} ms, as {place.declared.spiffe}, by {rule}"


def _asking(target: Service, port: int) -> Json:
    """How a port is asked. The audit database is a real one: it says whether it speaks TLS."""
    if target.name == AUDIT_DATABASE:
        return {"mode": "raw", "sendBase64": base64.b64encode(_SSL_REQUEST).decode()}
    return asking(next(item.protocol for item in target.ports if item.port == port))


def _recorded(
    tunnels: Tunnels, cluster: str, begun: datetime, is_it: Callable[[Record], bool]
) -> str:
    """The rule of the record in the trail of the cluster that was called."""
    trail = trail_of(tunnels.lab.api(cluster), tunnels.lab.policy, cluster)

    def enough(records: Sequence[Record]) -> bool:
        return any(map(is_it, records))

    try:
        found = [record for record in trail.settled(begun, enough) if is_it(record)]
    finally:
        trail.close()
    if not found:
        raise BrokenError(f"the trail of {cluster} has no record of it")
    return found[0].rule


# --- What does not cross --------------------------------------------------------------------------


def _undeclared(site: Site, sites: dict[str, Site]) -> Iterator[tuple[str, Judge]]:
    """One pod of each service, at every port of other clusters that it may not call."""
    gateway = site.effective.mesh.infrastructure.gateway
    for place in {place.declared.service.name: place for place in site.places}.values():
        if place.declared.service.name != gateway:
            others = [name for name in sites if name != site.cluster]
            targets = [
                (item.service, port)
                for name in others
                for item in site.effective.in_cluster(name)
                for port in item.service.ports
                if not _may(place, item.service, port)
            ]
            yield place.name, partial(_stays, site, place, targets)


def _may(place: Place, target: Service, port: Port) -> bool:
    upstreams = place.declared.upstreams
    return any((grant.destination, grant.port) == (target, port.port) for grant in upstreams)


def _stays(site: Site, place: Place, targets: Sequence[tuple[Service, Port]]) -> str:
    """By name there is nobody; and the own gateway lets nobody through by another's server name."""
    how: set[str] = set()
    is_let_in = True
    for target, port in targets:
        asked = {**asking(port.protocol), "host": _id(target), "port": port.port}
        tried = [site.ask(place, **asked, timeout=_REFUSED)]
        if is_let_in:
            tried.append(_by_gateway(site, place, target, port))
            # Whom NetworkPolicies keep from the gateway, they keep from it under every name.
            is_let_in = tried[-1]["error"] != UNREACHABLE
        for answer in tried:
            if answer["ok"]:
                raise BrokenError(f"it reaches {_id(target)}:{port.port}: {str(answer)[:200]}")
            how.add(str(answer["error"]))
    return f"{len(targets)} ports beyond: {', '.join(sorted(how))}"


def _by_gateway(site: Site, place: Place, target: Service, port: Port) -> Json:
    """Call the own gateway by the server name of a port beyond it."""
    gateway = site.effective.mesh.infrastructure.gateway
    name = server_name(port.port, target.name, target.namespace, target.cluster)
    return site.ask(
        place,
        mode="http",
        host=f"{gateway}.{place.declared.service.namespace}",
        port=GATEWAY_LOCAL,
        timeout=_REFUSED,
        tls={"serverName": name, "alpn": [ALPN]},
    )


def _id(service: Service) -> str:
    return f"{service.name}.{service.namespace}.{service.cluster}"
