"""Networks that must be apart, and those that must meet: clusters, routes, the tunnel."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from zt.check.facts import Facts
from zt.check.report import error
from zt.model import Cluster, Gateway
from zt.position import Finding, Where
from zt.values import Network


def check(facts: Facts) -> Iterator[Finding]:
    """Overlaps within clusters and between them, and what the gateways say of themselves."""
    clusters = facts.mesh.clusters
    ends = [(cluster, cluster.gateway) for cluster in clusters if cluster.gateway]
    for cluster in clusters:
        yield from _within(cluster)
    for cluster, gateway in ends:
        yield from _routes(cluster, gateway)
        yield from _tunnel_network(gateway, clusters)
        for other, _ in ends:
            if other is not cluster:
                yield from _between(gateway, other)
    for (cluster, gateway), (other, its) in combinations(ends, 2):
        yield from _ends(cluster, gateway, other, its)


def _networks(cluster: Cluster) -> Iterator[tuple[str, Network, Where]]:
    """What a cluster's networks are called, and where they are written."""
    yield "podCIDR", cluster.pod_cidr, cluster.where.field("podCIDR")
    yield "serviceCIDR", cluster.service_cidr, cluster.where.field("serviceCIDR")
    for index, network in enumerate(cluster.node_cidrs):
        yield "nodeCIDRs", network, cluster.where.field("nodeCIDRs", index)


def _within(cluster: Cluster) -> Iterator[Finding]:
    for (name, network, _), (its, other, where) in combinations(_networks(cluster), 2):
        if network.overlaps(other):
            message = (
                f"{its} {other} overlaps {name} {network} of the same cluster: an address would be "
                "of both"
            )
            yield error("overlap", where, message)


def _routes(cluster: Cluster, gateway: Gateway) -> Iterator[Finding]:
    """Who routes what is not its own takes others' traffic into the tunnel."""
    own = [network for _, network, _ in _networks(cluster)]
    for index, route in enumerate(gateway.routes):
        if not any(_contains(network, route) for network in own):
            message = (
                f"route {route} is no part of {cluster.name!r}: its peers should route only its "
                "own networks through the tunnel"
            )
            yield error("foreign-route", gateway.where.field("routes", index), message)


def _contains(network: Network, part: Network) -> bool:
    return network.overlaps(part) and network.prefixlen <= part.prefixlen


def _between(gateway: Gateway, other: Cluster) -> Iterator[Finding]:
    for index, route in enumerate(gateway.routes):
        for name, network, _ in _networks(other):
            if route.overlaps(network):
                message = (
                    f"route {route} overlaps {name} {network} of {other.name!r}, which would send "
                    "its own traffic into the tunnel: route other networks, or none (rules across "
                    "clusters need no route)"
                )
                yield error("overlap", gateway.where.field("routes", index), message)


def _tunnel_network(gateway: Gateway, clusters: tuple[Cluster, ...]) -> Iterator[Finding]:
    address, where = gateway.address, gateway.where.field("address")
    for cluster in clusters:
        for name, network, _ in _networks(cluster):
            if address.network.overlaps(network):
                message = (
                    f"the tunnel's network {address.network} overlaps {name} {network} of "
                    f"{cluster.name!r}: choose one that no cluster uses"
                )
                yield error("overlap", where, message)


def _ends(cluster: Cluster, gateway: Gateway, other: Cluster, its: Gateway) -> Iterator[Finding]:
    where = its.where.field("address")
    if gateway.address.ip == its.address.ip:
        message = f"{its.address.ip} is the tunnel address of {cluster.name!r}: choose another"
        yield error("duplicate-address", where, message)
    elif gateway.address.network != its.address.network:
        message = (
            f"{its.address} and {gateway.address} of {cluster.name!r} are not of one network, so "
            "the ends of the tunnel would not reach each other"
        )
        yield error("split-tunnel", where, message)
    if gateway.endpoint == its.endpoint:
        message = f"{its.endpoint} is the endpoint of both {cluster.name!r} and {other.name!r}"
        yield error("duplicate-endpoint", its.where.field("endpoint"), message)
