"""Where the parts of a mesh are: all that differs between a cluster, the lab and one machine.

The compiler asks a ``Placement`` for every address, socket and folder; nothing else in compiled
Envoy configuration depends on where it runs.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from zt.effective import Effective, Party, party_id
from zt.model import ExternalService, Mesh, Service
from zt.wellknown import (
    AGENT_SOCKET,
    BUNDLE_KEY,
    EVALUATOR_GRPC,
    GATEWAY_LOCAL,
    GATEWAY_TUNNEL,
    SIDECAR_BUNDLE,
    SIDECAR_CONFIGURATION,
    SIDECAR_HEALTH,
    SIDECAR_INBOUND,
    SIDECAR_METRICS,
    SIDECAR_RUN,
)

# Of loopback, where sidecars listen for upstreams: by itself, so that nothing else is there.
LOOPBACK_NETWORK = ipaddress.IPv4Network("127.64.0.0/10")
_LOOPBACK = LOOPBACK_NETWORK.network_address + 1
_LOOPBACK_SLOTS = LOOPBACK_NETWORK.num_addresses - 2


@dataclass(frozen=True, slots=True)
class Address:
    """An address or host name, and a TCP port."""

    host: str
    port: int


class Placement(Protocol):
    """Addresses, sockets and folders as one service's sidecar sees them."""

    def captures(self, service: Service) -> bool:
        """Whether the sidecar takes what comes to the service's declared ports."""

    def inbound(self, service: Service, port: int) -> Address:
        """Where the sidecar listens for connections to a declared port."""

    def application(self, service: Service, port: int) -> Address:
        """Where the application listens."""

    def outbound(self, service: Service, upstream: Party, port: int) -> Address:
        """Where the sidecar listens for the application's calls to an upstream."""

    def upstream(self, service: Service, destination: Service, port: int) -> Address:
        """Where a sidecar dials an upstream; across clusters, its own cluster's gateway."""

    def external(self, destination: ExternalService, host: str, port: int) -> Address:
        """Where a sidecar dials a host outside the mesh."""

    def evaluator(self, service: Service) -> Address:
        """The evaluator's gRPC port."""

    def gateway(self, gateway: Service) -> Address:
        """Where a gateway's Envoy listens for the sidecars of its own cluster."""

    def arrivals(self, gateway: Service) -> Address:
        """Where a gateway's Envoy listens for other clusters and for callers from outside."""

    def tunnel(self, cluster: str) -> Address:
        """Where a gateway dials that of another cluster, through the tunnel."""

    def metrics(self, service: Service) -> Address:
        """Where the sidecar serves its metrics."""

    def health(self, service: Service) -> Address:
        """Where the sidecar serves its readiness."""

    def admin(self, service: Service) -> dict[str, Any]:
        """Envoy's address (``core.v3.Address``) of the sidecar's admin interface."""

    def pod_networks(self, mesh: Mesh) -> tuple[str, ...]:
        """Networks whose addresses are pods, in CIDR form."""

    def source_address(self, service: Service) -> str | None:
        """The address that the sidecar calls from, where the system must be told."""

    def source(self, service: Service, file: str) -> dict[str, Any]:
        """Envoy's source (``core.v3.ConfigSource``) of what is compiled into a file."""

    def workload_api(self, service: Service) -> str:
        """The socket from which the sidecar takes its SVID and the trust bundle (SDS)."""

    def bundle(self, service: Service) -> tuple[str, str]:
        """Folder that is swapped when the trust bundle changes, and the PEM file in it."""


@dataclass(frozen=True)
class InCluster:
    """A pod of a Kubernetes cluster: loopback inside, Service names outside."""

    effective: Effective

    def captures(self, service: Service) -> bool:
        """All but the evaluator's."""
        return not ends_own_tls(service, self.effective.mesh)

    def inbound(self, service: Service, port: int) -> Address:
        """A port of its own for each declared one; the pod's redirect leads there."""
        numbers = sorted(declared.port for declared in service.ports)
        return Address("0.0.0.0", SIDECAR_INBOUND + numbers.index(port))  # noqa: S104 - the pod's

    def application(self, service: Service, port: int) -> Address:
        """The pod's loopback."""
        del service
        return Address("127.0.0.1", port)

    def outbound(self, service: Service, upstream: Party, port: int) -> Address:
        """An address of the loopback network for each upstream, so that ports never clash."""
        del service
        return Address(self._loopback[party_id(upstream, self.effective.mesh)], port)

    def upstream(self, service: Service, destination: Service, port: int) -> Address:
        """The destination's Service, or the gateway that leads to its cluster."""
        if service.cluster == destination.cluster:
            return Address(_dns(destination), port)
        if service.outside is not None:
            return Address(self._endpoint(destination.cluster), GATEWAY_TUNNEL)
        return Address(
            self._named(service, self.effective.mesh.infrastructure.gateway), GATEWAY_LOCAL
        )

    def external(self, destination: ExternalService, host: str, port: int) -> Address:
        """The host itself."""
        del destination
        return Address(_absolute(host), port)

    def evaluator(self, service: Service) -> Address:
        """The evaluator of the service's own cluster."""
        evaluator = self.effective.mesh.infrastructure.evaluator
        return Address(self._named(service, evaluator), EVALUATOR_GRPC)

    def gateway(self, gateway: Service) -> Address:
        """The pod's address."""
        del gateway
        return Address("0.0.0.0", GATEWAY_LOCAL)  # noqa: S104 - the pod's

    def arrivals(self, gateway: Service) -> Address:
        """The pod's address: callers from outside come by no tunnel."""
        del gateway
        return Address("0.0.0.0", GATEWAY_TUNNEL)  # noqa: S104 - the pod's

    def tunnel(self, cluster: str) -> Address:
        """The gateway's address inside the tunnel."""
        found = self.effective.mesh.cluster(cluster)
        host = str(found.gateway.address.ip) if found and found.gateway else cluster
        return Address(host, GATEWAY_TUNNEL)

    def metrics(self, service: Service) -> Address:
        """The pod's address: Prometheus comes from outside the pod."""
        del service
        return Address("0.0.0.0", SIDECAR_METRICS)  # noqa: S104 - the pod's

    def health(self, service: Service) -> Address:
        """The pod's address: the kubelet comes from outside the pod."""
        del service
        return Address("0.0.0.0", SIDECAR_HEALTH)  # noqa: S104 - the pod's

    def admin(self, service: Service) -> dict[str, Any]:
        """A socket that only the sidecar can open: admin can end Envoy and read its secrets."""
        del service
        return {"pipe": {"path": f"{SIDECAR_RUN}/admin.sock", "mode": 0o600}}

    def pod_networks(self, mesh: Mesh) -> tuple[str, ...]:
        """The pod networks of all clusters."""
        return tuple(sorted({str(cluster.pod_cidr) for cluster in mesh.clusters}))

    def source_address(self, service: Service) -> str | None:
        """None: the pod has one address."""
        del service
        return None

    def source(self, service: Service, file: str) -> dict[str, Any]:
        """The file itself, in the mount of the service's ConfigMap."""
        del service
        return {
            "resource_api_version": "V3",
            # A listener waits for its lists: it never opens without them.
            "initial_fetch_timeout": "0s",
            "path_config_source": {
                "path": f"{SIDECAR_CONFIGURATION}/{file}",
                # A ConfigMap's files are links; what moves is their folder.
                "watched_directory": {"path": SIDECAR_CONFIGURATION},
            },
        }

    def workload_api(self, service: Service) -> str:
        """The SPIRE agent's socket of the node, mounted into the sidecar alone."""
        del service
        return AGENT_SOCKET

    def bundle(self, service: Service) -> tuple[str, str]:
        """The mount of the ConfigMap that SPIRE publishes its bundle to."""
        del service
        return SIDECAR_BUNDLE, f"{SIDECAR_BUNDLE}/{BUNDLE_KEY}"

    @cached_property
    def _loopback(self) -> dict[str, str]:
        policy = self.effective.policy
        parties: tuple[Party, ...] = (*policy.services, *policy.externals)
        return loopback_addresses(party_id(party, policy.mesh) for party in parties)

    def _named(self, service: Service, name: str) -> str:
        """DNS name of a service of the mesh's own, in the same cluster."""
        cluster = service.outside.registrar if service.outside else service.cluster
        found = self.effective.find(cluster, name)
        return _dns(found.service) if found else name

    def _endpoint(self, name: str) -> str:
        """The public address of a cluster; ``check`` sees to it that there is one."""
        cluster = self.effective.mesh.cluster(name)
        return cluster.gateway.endpoint.host if cluster and cluster.gateway else name


def by_grpc(cluster: str) -> dict[str, Any]:
    """A gRPC server as an xDS source (``core.v3.ConfigSource``).

    SPIRE's agent speaks GRPC, not DELTA_GRPC. Without the zero time-out Envoy turns ready without
    a certificate, and resets every connection.
    """
    return {
        "resource_api_version": "V3",
        "initial_fetch_timeout": "0s",
        "api_config_source": {
            "api_type": "GRPC",
            "transport_api_version": "V3",
            "grpc_services": [{"envoy_grpc": {"cluster_name": cluster}}],
        },
    }


def loopback_addresses(parties: Iterable[str]) -> dict[str, str]:
    """An address of 127.64.0.0/10 for each party.

    It depends on the party's ID alone, so that a new party moves no other's (only where two IDs
    meet on one address does the later take the next).
    """
    taken: dict[int, str] = {}
    for party in sorted(parties):
        slot = int.from_bytes(hashlib.sha256(party.encode()).digest()[:4]) % _LOOPBACK_SLOTS
        while slot in taken:
            slot = (slot + 1) % _LOOPBACK_SLOTS
        taken[slot] = party
    return {party: str(_LOOPBACK + slot) for slot, party in taken.items()}


def _dns(service: Service) -> str:
    return _absolute(f"{service.name}.{service.namespace}.svc.cluster.local")


def _absolute(host: str) -> str:
    """A host name with its last dot, by which it is not looked up in the pod's ``/etc/hosts``.

    There the same name leads the application to its sidecar; Envoy, which reads that file too,
    would dial itself.
    """
    return f"{host}."


def ends_own_tls(service: Service, mesh: Mesh) -> bool:
    """Whether a service is the evaluator, which knows its callers by itself."""
    return service.name == mesh.infrastructure.evaluator


def names(service: Service, party: Party) -> tuple[str, ...]:
    """The host names by which a service dials an upstream, for its pods' ``hostAliases``.

    They are those that DNS would know in its pods. A service of another cluster, which DNS does not
    know, has the name of its cluster besides: ``<name>.<namespace>.<cluster>``.
    """
    if isinstance(party, ExternalService):
        return party.hosts
    qualified = f"{party.name}.{party.namespace}"
    everywhere = qualified, f"{qualified}.svc", f"{qualified}.svc.cluster.local"
    if party.cluster != service.cluster:
        return *everywhere, f"{qualified}.{party.cluster}"
    return (party.name, *everywhere) if party.namespace == service.namespace else everywhere
