"""The sidecar itself: where it finds its configuration, its metrics and its readiness."""

from __future__ import annotations

from collections.abc import Iterator

from zt.compile.envoy.resources import (
    DIALLING,
    EVALUATOR,
    KEEPALIVE,
    NOBODY,
    Json,
    Sidecar,
    cluster,
    discovery_type,
    endpoints,
    extension,
    http2,
    listener,
    upstream_tls,
)
from zt.emit import Fragment
from zt.placement import Address
from zt.wellknown import WORKLOAD_API

_ADMIN = "admin"


def bootstrap(car: Sidecar) -> Json:
    """``config.bootstrap.v3.Bootstrap``."""
    service = car.service
    result: Json = {
        "node": {"id": service.name, "cluster": service.cluster},
        "admin": {"address": car.placement.admin(service)},
        "dynamic_resources": {
            "lds_config": car.source("listeners.yaml"),
            "cds_config": car.source("clusters.yaml"),
        },
        # SDS needs its cluster before any other is there.
        "static_resources": {"clusters": [_workload_api(car.placement.workload_api(service))]},
    }
    source = car.placement.source_address(service)
    if source is not None:
        address = {"address": source, "port_value": 0}
        result["cluster_manager"] = {"upstream_bind_config": {"source_address": address}}
    return result


def service_clusters(car: Sidecar) -> Iterator[Fragment]:
    """Clusters that every sidecar has; those of two pods are the same."""
    return map(car.fragments.of, _clusters(car))


def service_listeners(car: Sidecar) -> Iterator[Fragment]:
    """Listeners that every sidecar has; those of two pods are the same."""
    return map(car.fragments.of, _listeners(car))


def _clusters(car: Sidecar) -> Iterator[Json]:
    """The evaluator, and the sidecar's own admin interface behind its metrics."""
    mesh = car.mesh
    home = car.service.outside.registrar if car.service.outside else car.service.cluster
    evaluator = car.effective.find(home, mesh.infrastructure.evaluator)
    # Without an evaluator nothing may be asked of anybody: a peer that nobody can be.
    peer = evaluator.spiffe if evaluator else NOBODY
    address = car.placement.evaluator(car.service)
    transport = upstream_tls(car, peer, mesh.infrastructure.evaluator, "h2")
    yield cluster(
        EVALUATOR,
        address,
        discovery_type(address),
        **DIALLING,
        typed_extension_protocol_options=http2(connection_keepalive=dict(KEEPALIVE)),
        transport_socket=transport,
    )
    yield {
        "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
        "name": _ADMIN,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": endpoints(_ADMIN, car.placement.admin(car.service)),
    }


def _listeners(car: Sidecar) -> Iterator[Json]:
    """Metrics for who scrapes them, readiness for the kubelet; nothing else of admin is open."""
    yield _admin_listener("metrics", car.placement.metrics(car.service), "/stats/prometheus")
    yield _admin_listener("health", car.placement.health(car.service), "/ready")


def _admin_listener(name: str, address: Address, path: str) -> Json:
    router = extension(
        "envoy.filters.http.router", "filters.http.router.v3.Router", suppress_envoy_headers=True
    )
    route = {"match": {"path": path}, "route": {"cluster": _ADMIN}}
    host = {"name": name, "domains": ["*"], "routes": [route]}
    manager = extension(
        "envoy.filters.network.http_connection_manager",
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix=name,
        route_config={"name": name, "virtual_hosts": [host]},
        http_filters=[router],
    )
    return listener(name, address, "INBOUND", filter_chains=[{"filters": [manager]}])


def _workload_api(socket: str) -> Json:
    return {
        "name": WORKLOAD_API,
        "type": "STATIC",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": http2(),
        "load_assignment": endpoints(WORKLOAD_API, {"pipe": {"path": socket}}),
    }
