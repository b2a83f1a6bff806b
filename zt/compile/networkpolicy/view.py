"""A policy as one cluster sees it: what is here, what crosses, and which networks are whose."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from zt.compile.networkpolicy.objects import Block, Pods, groups, peer, pods_of
from zt.effective import Effective, EffectiveService, Grant, Party
from zt.emit import Fragment, note
from zt.model import Cluster, Phase, Service
from zt.values import Network

_ANYWHERE = {4: ipaddress.ip_network("0.0.0.0/0"), 6: ipaddress.ip_network("::/0")}


@dataclass(frozen=True)
class View:
    """A policy, and the cluster from which it is seen."""

    effective: Effective
    cluster: Cluster

    @cached_property
    def services(self) -> tuple[EffectiveService, ...]:
        """The services of the cluster."""
        return self.effective.in_cluster(self.cluster.name)

    @cached_property
    def enforced(self) -> tuple[EffectiveService, ...]:
        """Those that are restricted."""
        return tuple(item for item in self.services if item.phase is Phase.ENFORCE)

    @cached_property
    def observed(self) -> tuple[EffectiveService, ...]:
        """Those that are not; a canary too, whose one replica the evaluator alone knows."""
        return tuple(item for item in self.services if item.phase is not Phase.ENFORCE)

    @cached_property
    def _pods(self) -> dict[int, Pods]:
        return {id(item.service): pods_of(item.service) for item in self.services}

    def pods(self, service: Service) -> Pods:
        """The pods of a service of the cluster; one object, for it is asked for very often."""
        return self._pods[id(service)]

    @cached_property
    def open_egress(self) -> list[Any]:
        """An item that all egress policies share: what is not enforced may be called."""
        found = groups(item.service for item in self.observed)
        if not found:
            return []
        to = Fragment([peer(pods, "") for _, pods in found])
        return [note({"to": to}, "Not enforced yet: their own phase decides.")]

    @cached_property
    def evaluator(self) -> Service | None:
        """The evaluator of the cluster."""
        return self._named(self.effective.mesh.infrastructure.evaluator)

    @cached_property
    def gateway(self) -> Service | None:
        """The gateway of the cluster."""
        return self._named(self.effective.mesh.infrastructure.gateway)

    @cached_property
    def metrics(self) -> Service | None:
        """Who scrapes the sidecars of the cluster."""
        return self._named(self.effective.mesh.infrastructure.metrics)

    def _named(self, name: str) -> Service | None:
        found = self.effective.find(self.cluster.name, name)
        return found.service if found else None

    @cached_property
    def _rank(self) -> dict[str, int]:
        return {named.name: rank for rank, named in enumerate(self.effective.rules)}

    def in_order(self, grants: Iterable[Grant]) -> list[Grant]:
        """Grants by the order in which their rules are consulted."""
        return sorted(grants, key=lambda grant: self._rank[grant.rule.name])

    def is_here(self, party: Party) -> bool:
        """Whether a party runs in the cluster."""
        return isinstance(party, Service) and party.cluster == self.cluster.name

    @cached_property
    def arriving(self) -> list[Grant]:
        """Edges that lead into the cluster from another, or from a place outside."""
        return self.in_order(
            grant
            for item in self.services
            for inbound in item.inbound
            for grant in inbound.clients
            if not self.is_here(grant.source)
        )

    @cached_property
    def leaving(self) -> list[Grant]:
        """Edges that lead from the cluster into another."""
        return self.in_order(
            grant
            for item in self.services
            for grant in item.upstreams
            if not self.is_here(grant.destination)
        )

    @cached_property
    def _pod_networks(self) -> frozenset[Network]:
        return frozenset(cluster.pod_cidr for cluster in self.effective.mesh.clusters)

    @cached_property
    def _service_networks(self) -> frozenset[Network]:
        return frozenset(cluster.service_cidr for cluster in self.effective.mesh.clusters)

    @cached_property
    def _node_networks(self) -> frozenset[Network]:
        clusters = self.effective.mesh.clusters
        return frozenset(cidr for cluster in clusters for cidr in cluster.node_cidrs)

    def sources(self, networks: Iterable[Network]) -> Iterator[Block]:
        """Networks to be called from."""
        return self._blocks(networks, self._pod_networks)

    def destinations(self, networks: Iterable[Network]) -> Iterator[Block]:
        """Networks to be called; a ClusterIP that is named by itself may be one."""
        return self._blocks(networks, self._pod_networks | self._service_networks)

    def elsewhere(self) -> Iterator[Block]:
        """All that is no part of the mesh: what is called by host names may be anywhere there."""
        own = self._pod_networks | self._service_networks | self._node_networks
        return self._blocks((_ANYWHERE[self.cluster.pod_cidr.version],), own)

    def endpoint(self, host: str) -> Iterator[Block]:
        """A host by its address; one by a name may be anywhere."""
        try:
            yield Block(str(ipaddress.ip_network(host)))
        except ValueError:
            yield from self.sources((_ANYWHERE[4],))

    def _blocks(self, networks: Iterable[Network], cut: frozenset[Network]) -> Iterator[Block]:
        """The networks, without what must be cut out of them.

        Pods are always cut out: a pod proves who it is, and never counts as an address.
        """
        for network in networks:
            if not any(_within(network, pods) for pods in self._pod_networks):
                inner = {other for other in cut if _within(other, network)} - {network}
                yield Block(str(network), tuple(map(str, _outermost(inner))))


def _outermost(networks: set[Network]) -> list[Network]:
    """Those that lie in no other, in order."""
    found = (one for one in networks if not any(_within(one, two) for two in networks - {one}))
    return sorted(found, key=lambda network: (network.version, int(network.network_address)))


def _within(inner: Network, outer: Network) -> bool:
    return inner.version == outer.version and inner.subnet_of(outer)  # type: ignore[arg-type]
