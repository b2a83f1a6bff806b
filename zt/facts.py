"""What the compiled files of a cluster are about: names that whoever installs them has to know."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

from zt.effective import Effective
from zt.model import Gateway, Lifetimes, Service


@dataclass(frozen=True, slots=True)
class Facts:
    """One cluster of the mesh. Parts of the mesh that the cluster has not got are ``None``."""

    mesh: str
    trust_domain: str
    cluster: str
    pod_cidr: IPv4Network | IPv6Network
    service_cidr: IPv4Network | IPv6Network
    lifetimes: Lifetimes
    services: tuple[Service, ...]
    evaluator: Service | None
    gateway: Service | None
    metrics: Service | None
    tunnel: Gateway | None

    @property
    def namespaces(self) -> tuple[str, ...]:
        """Namespaces that have a declared service, sorted."""
        return tuple(sorted({service.namespace for service in self.services}))

    def service(self, name: str) -> Service | None:
        """The service of that name in this cluster."""
        return next((service for service in self.services if service.name == name), None)


def facts_of(effective: Effective, cluster: str) -> Facts | None:
    """The facts of one cluster; ``None`` for a place outside Kubernetes."""
    mesh = effective.mesh
    found = mesh.cluster(cluster)
    if found is None:
        return None

    def service(name: str) -> Service | None:
        item = effective.find(cluster, name)
        return item.service if item else None

    return Facts(
        mesh=mesh.name,
        trust_domain=mesh.trust_domain,
        cluster=cluster,
        pod_cidr=found.pod_cidr,
        service_cidr=found.service_cidr,
        lifetimes=mesh.lifetimes,
        services=tuple(item.service for item in effective.in_cluster(cluster)),
        evaluator=service(mesh.infrastructure.evaluator),
        gateway=service(mesh.infrastructure.gateway),
        metrics=service(mesh.infrastructure.metrics),
        tunnel=found.gateway,
    )
