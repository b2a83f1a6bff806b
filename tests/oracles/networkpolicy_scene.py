"""What should be allowed between the pods of a cluster, and where compiled policies differ."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from ipaddress import ip_address
from typing import Any

from tests.oracles.networkpolicy import Cluster, Object, Pod, is_within
from tests.strategies import TODAY
from zt.decide import DecisionTable, Verdict, decide, decision_table
from zt.effective import EXTERNAL
from zt.model import ExternalService, Phase, Policy, Service
from zt.values import Network
from zt.wellknown import (
    EVALUATOR_GRPC,
    EVALUATOR_HEALTH,
    EVALUATOR_WEBHOOK,
    GATEWAY_LOCAL,
    GATEWAY_TUNNEL,
    SIDECAR_HEALTH,
    SIDECAR_INBOUND,
    SIDECAR_METRICS,
    SIDECAR_PROBES,
)

ROLE_PORTS = {
    *(53, EVALUATOR_GRPC, EVALUATOR_HEALTH, EVALUATOR_WEBHOOK, GATEWAY_LOCAL, GATEWAY_TUNNEL),
    *(SIDECAR_HEALTH, SIDECAR_INBOUND, SIDECAR_METRICS, SIDECAR_PROBES),
}
ADDRESSES = (
    *("8.8.8.8", "198.51.100.7", "203.0.113.1", "10.50.0.1", "192.168.0.5"),
    *("10.1.250.1", "10.100.0.1", "2001:db8::1"),
)

Entry = tuple[str, str, str, int]
"""A cell of the truth table: side, source, destination, port."""


@dataclass(frozen=True)
class Scene:
    """Pods of each service of a cluster, others that nobody declared, and what is right.

    One of each, and one more where pods of one service reach each other.
    """

    policy: Policy
    cluster: str

    @cached_property
    def services(self) -> dict[Pod, Service]:
        here = [service for service in self.policy.services if service.cluster == self.cluster]
        several = [service for service in here if service.peer_ports]
        return {
            Pod(item.name, item.namespace, item.labels, self._ip(number)): item
            for number, item in enumerate(here, 100)
        } | {
            Pod(f"{item.name}-1", item.namespace, item.labels, self._ip(number)): item
            for number, item in enumerate(several, 150)
        }

    @cached_property
    def pods(self) -> tuple[Pod, ...]:
        namespaces = sorted({pod.namespace for pod in self.services} | {"elsewhere"})
        strays = (
            Pod(f"stray-{namespace}", namespace, {"app": "stray"}, self._ip(number))
            for number, namespace in enumerate(namespaces, 10)
        )
        return *self.services, *strays, self.dns

    @cached_property
    def dns(self) -> Pod:
        return Pod("kube-dns", "kube-system", {"k8s-app": "kube-dns"}, self._ip(2))

    def _ip(self, number: int) -> str:
        return str(self._found.pod_cidr[number])

    @cached_property
    def _found(self) -> Any:  # noqa: ANN401 - a Cluster of the model, whose name the oracle has
        return self.policy.mesh.cluster(self.cluster)

    @cached_property
    def table(self) -> DecisionTable:
        return decision_table(self.policy, TODAY)

    @cached_property
    def edges(self) -> frozenset[tuple[str, str, int]]:
        """All that ``decide`` allows."""
        return frozenset(
            (source, destination, port)
            for destination, ports in self.table.ports.items()
            for port in ports
            for source in self.table.selectors
            if decide(self.table, source, destination, port).verdict is Verdict.ALLOW
        )

    @cached_property
    def _ids(self) -> dict[int, str]:
        return {id(item): item.spiffe(self.policy.mesh) for item in self.policy.services}

    def spiffe(self, service: Service) -> str:
        return self._ids[id(service)]

    def is_enforced(self, service: Service) -> bool:
        return self.table.phases[self.spiffe(service)] is Phase.ENFORCE

    def is_elsewhere(self, party: str) -> bool:
        """Whether a party is a service, but none of this cluster."""
        here = f"spiffe://{self.policy.mesh.trust_domain}/{self.cluster}/"
        return not party.startswith((here, EXTERNAL))

    def is_free(self, stray: Pod) -> bool:
        """Whether a pod that nobody declared keeps its network."""
        return stray.namespace not in self._closed

    @cached_property
    def _closed(self) -> frozenset[str]:
        step = self.policy.rollout.step() if self.policy.rollout else None
        closed = step is not None and step.declared_only
        return frozenset(pod.namespace for pod in self.services if closed)

    def may_call(self, source: Service, destination: Service, port: int) -> bool:
        edge = self.spiffe(source), self.spiffe(destination), port
        peers = source is destination and port in destination.peer_ports
        return edge in self.edges or peers or self._has_role(source, destination, port)

    def _has_role(self, source: Service, destination: Service, port: int) -> bool:
        """Exactly these go beyond ``decide``."""
        names = self.policy.mesh.infrastructure
        return (
            (destination.name == names.evaluator and port == EVALUATOR_GRPC)
            or (source.name == names.metrics and port == SIDECAR_METRICS)
            or (
                destination.name == names.gateway
                and port == GATEWAY_LOCAL
                and self.spiffe(source) in self._leaving
            )
            or (source.name == names.gateway and (self.spiffe(destination), port) in self._arriving)
        )

    @cached_property
    def _leaving(self) -> frozenset[str]:
        """Who calls services of other clusters."""
        return frozenset(a for a, b, _ in self.edges if self.is_elsewhere(b))

    @cached_property
    def _arriving(self) -> frozenset[tuple[str, int]]:
        """What services of other places call."""
        return frozenset((b, port) for a, b, port in self.edges if self.is_elsewhere(a))

    def ingress(self, source: Pod, destination: Pod, port: int) -> bool:
        called, caller = self.services.get(destination), self.services.get(source)
        if called is None:
            return self.is_free(destination)
        if not self.is_enforced(called) or self._may_ask_webhook(source.ip, called, port):
            return True
        return caller is not None and self.may_call(caller, called, port)

    def egress(self, source: Pod, destination: Pod, port: int) -> bool:
        called, caller = self.services.get(destination), self.services.get(source)
        if caller is None:
            return self.is_free(source)
        if not self.is_enforced(caller) or (destination == self.dns and port == 53):
            return True
        return called is not None and (
            not self.is_enforced(called) or self.may_call(caller, called, port)
        )

    # Addresses that are no pods.

    def ingress_from(self, address: str, service: Service, port: int) -> bool:
        if not self.is_enforced(service) or self._from_role(address, service, port):
            return True
        return self._lies_in(address, self._pod_networks) is False and any(
            (EXTERNAL + external.name, self.spiffe(service), port) in self.edges
            and self._lies_in(address, external.cidrs)
            for external in self.policy.externals
        )

    def _from_role(self, address: str, service: Service, port: int) -> bool:
        names = self.policy.mesh.infrastructure
        if self._may_ask_webhook(address, service, port):
            return True
        if self._lies_in(address, self._found.node_cidrs) and (
            port in (SIDECAR_HEALTH, SIDECAR_PROBES)
            or (port == EVALUATOR_HEALTH and service.name == names.evaluator)
        ):
            return True
        return (service.name, port) == (names.gateway, GATEWAY_TUNNEL) and any(
            outer.outside is not None
            and self._lies_in(address, outer.outside.cidrs)
            and any(a == self.spiffe(outer) and self._is_here(b) for a, b, _ in self.edges)
            for outer in self.policy.services
        )

    def _may_ask_webhook(self, address: str, service: Service, port: int) -> bool:
        """Anybody, where the mesh does not say who the API server is."""
        if (service.name, port) != (self.policy.mesh.infrastructure.evaluator, EVALUATOR_WEBHOOK):
            return False
        known = self._found.api_server_cidrs
        return not known or self._lies_in(address, known)

    def _is_here(self, party: str) -> bool:
        return not self.is_elsewhere(party) and not party.startswith(EXTERNAL)

    def egress_to(self, service: Service, address: str, port: int) -> bool:
        return not self.is_enforced(service) or any(
            (self.spiffe(service), EXTERNAL + external.name, port) in self.edges
            and self._leads_to(external, address)
            for external in self.policy.externals
        )

    def _leads_to(self, external: ExternalService, address: str) -> bool:
        clusters = self.policy.mesh.clusters
        inner = [*self._pod_networks, *(cluster.service_cidr for cluster in clusters)]
        if external.cidrs:
            return self._lies_in(address, external.cidrs) and not self._lies_in(address, inner)
        nodes = [node for cluster in clusters for node in cluster.node_cidrs]
        return ip_address(address).version == 4 and not self._lies_in(address, [*inner, *nodes])

    @property
    def _pod_networks(self) -> list[Network]:
        return [cluster.pod_cidr for cluster in self.policy.mesh.clusters]

    @staticmethod
    def _lies_in(address: str, networks: Iterable[Network]) -> bool:
        return any(is_within(address, str(network)) for network in networks)


def mistakes(scene: Scene, objects: Iterable[Object]) -> set[Entry]:
    """Cells of the truth table, side by side, in which compiled policies and the truth differ."""
    return {
        (side, source.name, destination.name, port)
        for side, source, destination, port in wrong(scene, Cluster(objects))
    }


def wrong(scene: Scene, cluster: Cluster) -> Iterator[tuple[str, Pod, Pod, int]]:
    for destination in scene.pods:
        service = scene.services.get(destination)
        declared = (
            {*(port.port for port in service.ports), *service.peer_ports} if service else set()
        )
        for source in scene.pods:
            if source != destination:
                for port in ROLE_PORTS | declared:
                    ends = source, destination, port
                    if cluster.ingress(*ends) is not scene.ingress(*ends):
                        yield "ingress", *ends
                    if cluster.egress(*ends) is not scene.egress(*ends):
                        yield "egress", *ends
