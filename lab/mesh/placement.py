"""The local mesh's side of compiled configuration: addresses, and xDS by a server of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.mesh.addresses import Plan, key, parties, unprivileged
from lab.mesh.authority import BUNDLE
from lab.mesh.folders import Folders
from zt.effective import Effective, Party, party_id
from zt.model import ExternalService, Mesh, Service
from zt.placement import Address, by_grpc
from zt.wellknown import (
    EVALUATOR_GRPC,
    GATEWAY_LOCAL,
    GATEWAY_TUNNEL,
    SIDECAR_HEALTH,
    SIDECAR_METRICS,
    WORKLOAD_API,
)


@dataclass(frozen=True, slots=True)
class LocalPlacement:
    """Loopback addresses of a plan, files of a run folder."""

    effective: Effective
    plan: Plan
    folders: Folders

    def captures(self, service: Service) -> bool:
        """Everything: on one machine the evaluator's API is behind its sidecar too."""
        del service
        return True

    def inbound(self, service: Service, port: int) -> Address:
        """The pod's address, and the declared port itself."""
        return Address(self.plan.pod(service), unprivileged(port))

    def application(self, service: Service, port: int) -> Address:
        """The application's own address."""
        return Address(self.plan.application(service), unprivileged(port))

    def outbound(self, service: Service, upstream: Party, port: int) -> Address:
        """An address for each upstream of each service: they share one loopback interface."""
        own = self.effective.find(service.cluster, service.name)
        calls = parties(own, self.effective.mesh) if own else ()
        index = calls.index(party_id(upstream, self.effective.mesh))
        return Address(self.plan.upstream(service, index), unprivileged(port))

    def upstream(self, service: Service, destination: Service, port: int) -> Address:
        """The destination's pod; across clusters the gateway, or from outside the tunnel's end."""
        gateway = self._gateway(service.cluster)
        if service.cluster == destination.cluster or gateway == service:
            return self.inbound(destination, port)
        if service.outside is not None and self._gateway(destination.cluster):
            return self.tunnel(destination.cluster)
        return self.gateway(gateway) if gateway else self.inbound(destination, port)

    def external(self, destination: ExternalService, host: str, port: int) -> Address:
        """The stand-in of what is outside."""
        del host
        return Address(self.plan.stand_in(destination), unprivileged(port))

    def evaluator(self, service: Service) -> Address:
        """The evaluator of the service's cluster, or of the one that registers it."""
        home = service.outside.registrar if service.outside else service.cluster
        return Address(self.plan.evaluator(home), EVALUATOR_GRPC)

    def gateway(self, gateway: Service) -> Address:
        """The gateway's pod."""
        return Address(self.plan.pod(gateway), GATEWAY_LOCAL)

    def arrivals(self, gateway: Service) -> Address:
        """The gateway's pod."""
        return Address(self.plan.pod(gateway), GATEWAY_TUNNEL)

    def tunnel(self, cluster: str) -> Address:
        """The gateway's pod as well: on one machine there is no tunnel to cross."""
        gateway = self._gateway(cluster)
        host = self.plan.pod(gateway) if gateway else cluster
        return Address(host, GATEWAY_TUNNEL)

    def metrics(self, service: Service) -> Address:
        """The pod's address."""
        return Address(self.plan.pod(service), SIDECAR_METRICS)

    def health(self, service: Service) -> Address:
        """The pod's address."""
        return Address(self.plan.pod(service), SIDECAR_HEALTH)

    def admin(self, service: Service) -> dict[str, Any]:
        """A socket that only its owner can open."""
        return {"pipe": {"path": str(self.admin_socket(service)), "mode": 0o600}}

    def admin_socket(self, service: Service) -> Path:
        """The path of the admin socket: short, because sockets allow 107 bytes."""
        return self.folders.sockets / f"{self.plan.services[key(service)]}.sock"

    def pod_networks(self, mesh: Mesh) -> tuple[str, ...]:
        """The pods' part of the plan."""
        del mesh
        return (self.plan.pods,)

    def source_address(self, service: Service) -> str | None:
        """The pod's address, so that destinations see who calls."""
        return self.plan.pod(service)

    def source(self, service: Service, file: str) -> dict[str, Any]:
        """The sidecar's own xDS server."""
        del service, file
        return by_grpc(WORKLOAD_API)

    def workload_api(self, service: Service) -> str:
        """The socket of the sidecar's own xDS server."""
        return str(self.discovery_socket(service))

    def discovery_socket(self, service: Service) -> Path:
        """The path of that socket."""
        return self.folders.sockets / f"{self.plan.services[key(service)]}.xds"

    def bundle(self, service: Service) -> tuple[str, str]:
        """The bundle's folder and its file."""
        del service
        return str(self.folders.bundle), str(self.folders.bundle / BUNDLE)

    def _gateway(self, cluster: str) -> Service | None:
        found = self.effective.find(cluster, self.effective.mesh.infrastructure.gateway)
        return found.service if found else None
