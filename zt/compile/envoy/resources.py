"""What the parts of a sidecar's configuration are made of (Envoy's v3 API)."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

from zt.effective import Effective, EffectiveService, Inbound
from zt.emit import Fragment, Fragments, blank
from zt.model import Mesh, Service
from zt.placement import Address, Placement, by_grpc
from zt.wellknown import ALPN, METADATA_DESTINATION, METADATA_PORT, WORKLOAD_API

Json = dict[str, Any]

_TYPE = "type.googleapis.com/envoy."
_EXTENSIONS = f"{_TYPE}extensions."
_TLS = "transport_sockets.tls.v3"
EVALUATOR = "evaluator"

# How long a new connection waits for the answer about it. Enforced, it is refused then: neither a
# disk that stalls nor a node that died (KEEPALIVE) should take as long. Observed, it passes then.
ENFORCED_PATIENCE, OBSERVED_PATIENCE = "5s", "1s"
# A question to an evaluator that has just died goes to another one, as long as there is time.
ASKED_AGAIN = 3
# Reports of refusals are kept until an evaluator takes them: its connection may take longer than a
# dial does, or there is none for a while. Each thread of a sidecar begins with its first refusal.
REPORT_AGAIN = {
    "num_retries": 600,
    "retry_back_off": {"base_interval": "0.1s", "max_interval": "1s"},
}
# One whose node died says nothing more: its connection is given up after so long. What is dialled
# next may be dead as well, which is to be seen while a question still has time.
KEEPALIVE = {"interval": "2s", "timeout": "2s"}
DIAL_PATIENCE = "0.5s"
# All that wait for one evaluator may ask again at once: by itself Envoy lets three, and the others
# would be refused.
DIALLING: Json = {
    "connect_timeout": DIAL_PATIENCE,
    "circuit_breakers": {"thresholds": [{"max_retries": 1024}]},
}

# Envoy reads an empty list of names as "everyone"; this one, no SPIFFE ID, is nobody's.
NOBODY = "nobody"


@dataclass(frozen=True)
class Sidecar:
    """One sidecar, and the parts that recur in its configuration."""

    effective: Effective
    own: EffectiveService
    placement: Placement
    fragments: Fragments
    certificate: Fragment
    bundle: Fragment
    tls_params: Fragment

    @property
    def service(self) -> Service:
        """The service that it stands beside."""
        return self.own.service

    @property
    def mesh(self) -> Mesh:
        """The mesh."""
        return self.effective.mesh

    @property
    def spiffe(self) -> str:
        """Its identity."""
        return self.own.spiffe

    @property
    def captured(self) -> tuple[Inbound, ...]:
        """The declared ports that the sidecar takes connections to."""
        return self.own.inbound if self.placement.captures(self.service) else ()

    def source(self, file: str) -> Fragment:
        """What is compiled into a file of this sidecar, as an xDS source."""
        return self.fragments.of(self.placement.source(self.service, file))

    def secret(self, name: str, validation: Json) -> Json:
        """A validation context as an SDS resource: the trust bundle and what else must hold."""
        folder, file = self.placement.bundle(self.service)
        return {
            "@type": f"{_EXTENSIONS}{_TLS}.Secret",
            "name": name,
            "validation_context": {
                "trusted_ca": {"filename": file},
                "watched_directory": {"path": folder},
                **validation,
            },
        }


def sidecar(
    effective: Effective, own: EffectiveService, placement: Placement, fragments: Fragments
) -> Sidecar:
    """Prepare the recurring parts of a sidecar; ``fragments`` are those of all sidecars."""
    groups = [str(group) for group in effective.mesh.algorithms.key_exchange]
    return Sidecar(
        effective=effective,
        own=own,
        placement=placement,
        fragments=fragments,
        # The names by which the SPIRE agent serves a workload's SVID and its trust bundle.
        certificate=fragments.of([{"name": "default", "sds_config": by_grpc(WORKLOAD_API)}]),
        bundle=fragments.of({"name": "ROOTCA", "sds_config": by_grpc(WORKLOAD_API)}),
        # An upstream context stops at TLS 1.2 unless told otherwise.
        tls_params=fragments.of(
            {
                "tls_minimum_protocol_version": "TLSv1_3",
                "tls_maximum_protocol_version": "TLSv1_3",
                "ecdh_curves": groups,
            }
        ),
    )


def discovery(resources: Sequence[object]) -> Json:
    """A file of resources (``discovery.v3.DiscoveryResponse``)."""
    return {"resources": resources}


def extension(name: str, kind: str, **fields: Any) -> Json:  # noqa: ANN401 - any JSON value
    """An extension by its name and the type of its configuration."""
    return {"name": name, "typed_config": {"@type": _EXTENSIONS + kind, **fields}}


def socket_address(address: Address) -> Json:
    """``core.v3.Address`` of a TCP address."""
    return {"socket_address": {"address": address.host, "port_value": address.port}}


def blank_address() -> Address:
    """An address that a form is filled with."""
    # What fills the second blank is a number.
    return Address(blank("host"), cast("int", blank("port")))


def listener(name: str, address: Address, direction: str, **fields: Any) -> Json:  # noqa: ANN401
    """A listener."""
    return {
        "@type": f"{_TYPE}config.listener.v3.Listener",
        "name": name,
        "address": socket_address(address),
        "traffic_direction": direction,
        **fields,
    }


def cluster(
    name: str,
    address: Address,
    discovery_type: str,
    **fields: Any,  # noqa: ANN401 - any JSON value
) -> Json:
    """A cluster of one address."""
    return {
        "@type": f"{_TYPE}config.cluster.v3.Cluster",
        "name": name,
        "type": discovery_type,
        "connect_timeout": "2s",
        "load_assignment": endpoints(name, socket_address(address)),
        **fields,
    }


def endpoints(name: str, address: Json) -> Json:
    """``endpoint.v3.ClusterLoadAssignment`` of one address."""
    endpoint = {"endpoint": {"address": address}}
    return {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]}


@lru_cache(maxsize=1 << 14)
def discovery_type(address: Address) -> str:
    """How a cluster finds its address: as given, or by DNS."""
    try:
        ipaddress.ip_address(address.host)
    except ValueError:
        return "STRICT_DNS"
    return "STATIC"


def tcp_proxy(name: str, upstream: str, **fields: Any) -> Json:  # noqa: ANN401
    """The filter that hands a connection on."""
    return extension(
        "envoy.filters.network.tcp_proxy",
        "filters.network.tcp_proxy.v3.TcpProxy",
        stat_prefix=name,
        cluster=upstream,
        # Database connections may rest for hours; ending them is the application's to do.
        idle_timeout="0s",
        **fields,
    )


def tls_inspector() -> Json:
    """The listener filter that reads SNI and ALPN."""
    return extension(
        "envoy.filters.listener.tls_inspector", "filters.listener.tls_inspector.v3.TlsInspector"
    )


def upstream_tls(car: Sidecar, peer: str, server_name: str, protocol: str = ALPN) -> Json:
    """TLS towards a peer of the mesh: our SVID, and none but the peer's ID."""
    return extension(
        "envoy.transport_sockets.tls",
        f"{_TLS}.UpstreamTlsContext",
        sni=server_name,
        # A resumed session would not be checked against the list again.
        max_session_keys=0,
        common_tls_context={
            "tls_params": car.tls_params,
            "alpn_protocols": [protocol],
            "tls_certificate_sds_secret_configs": car.certificate,
            "combined_validation_context": {
                "default_validation_context": {"match_typed_subject_alt_names": [exactly(peer)]},
                "validation_context_sds_secret_config": car.bundle,
            },
        },
    )


def downstream_tls(car: Sidecar, validation: str) -> Json:
    """TLS towards clients of the mesh, who must be on the list in a file of that name."""
    return extension(
        "envoy.transport_sockets.tls",
        f"{_TLS}.DownstreamTlsContext",
        require_client_certificate=True,
        # A resumed session would not be checked against the list again.
        disable_stateless_session_resumption=True,
        disable_stateful_session_resumption=True,
        common_tls_context={
            "tls_params": car.tls_params,
            "alpn_protocols": [ALPN],
            "tls_certificate_sds_secret_configs": car.certificate,
            "validation_context_sds_secret_config": {
                "name": validation,
                "sds_config": car.source(f"{validation}.yaml"),
            },
        },
    )


def exactly(spiffe: str) -> Json:
    """A matcher of one URI SAN."""
    return {"san_type": "URI", "matcher": {"exact": spiffe}}


def http2(**options: Any) -> Json:  # noqa: ANN401 - any JSON value
    """Options of a cluster that speaks gRPC; ``options`` are those of HTTP/2."""
    kind = "upstreams.http.v3.HttpProtocolOptions"
    return {
        f"envoy.extensions.{kind}": {
            "@type": _EXTENSIONS + kind,
            "explicit_http_config": {"http2_protocol_options": options},
        }
    }


def to_evaluator(destination: str, port: int) -> Json:
    """The gRPC service of the evaluator; the metadata says which port of whom is asked about.

    The evaluator takes it only from a channel whose SVID is that destination's.
    """
    return {
        "envoy_grpc": {"cluster_name": EVALUATOR},
        "initial_metadata": [
            {"key": METADATA_DESTINATION, "value": destination},
            {"key": METADATA_PORT, "value": str(port)},
        ],
    }


def within(patience: str) -> Json:
    """What a gRPC service that takes questions has besides: ``patience`` is a duration of Envoy's.

    Envoy takes the longest pause for the longest that an answer may take as well: a question that
    is answered slowly must not be asked, and recorded, twice.
    """
    return {
        "timeout": patience,
        "retry_policy": {
            "retry_on": "connect-failure,reset,refused-stream",
            "num_retries": ASKED_AGAIN,
            "retry_back_off": {"base_interval": "0.025s", "max_interval": patience},
        },
    }
