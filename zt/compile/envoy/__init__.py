"""Sidecar configuration: file-based xDS, one folder of files for each service.

``listeners.yaml`` and ``clusters.yaml`` say where connections go. Who may connect is in files of
their own, ``clients-<port>.yaml`` (the identities that complete a handshake, by SDS) and
``rbac-<port>.yaml`` (the same again behind the evaluator, by ECDS): Envoy follows those without
ending a connection.
"""

from __future__ import annotations

from collections.abc import Iterator

from zt.bundle import CompiledFile
from zt.compile.envoy.bootstrap import bootstrap, service_clusters, service_listeners
from zt.compile.envoy.gateway import gateway_clusters, gateway_listeners
from zt.compile.envoy.inbound import inbound_clusters, inbound_files, inbound_listeners
from zt.compile.envoy.outbound import outbound_clusters, outbound_listeners
from zt.compile.envoy.resources import Sidecar, discovery, sidecar
from zt.effective import Effective
from zt.emit import Fragments
from zt.placement import InCluster, Placement


def compile_envoy(
    effective: Effective, cluster: str, placement: Placement | None = None
) -> Iterator[CompiledFile]:
    """Compile the sidecars of a cluster, or of a place outside; by default as pods."""
    placement = placement or InCluster(effective)
    fragments = Fragments()
    for service in effective.in_cluster(cluster):
        yield from _files(sidecar(effective, service, placement, fragments))


def _files(car: Sidecar) -> Iterator[CompiledFile]:
    name = car.service.name
    folder = f"envoy/{name}"
    listeners = [
        *inbound_listeners(car),
        *outbound_listeners(car),
        *gateway_listeners(car),
        *service_listeners(car),
    ]
    clusters = [
        *inbound_clusters(car),
        *outbound_clusters(car),
        *gateway_clusters(car),
        *service_clusters(car),
    ]
    yield CompiledFile(
        f"{folder}/bootstrap.yaml",
        bootstrap(car),
        f"Sidecar of {car.spiffe}: nothing in this file changes with the policy.",
    )
    yield CompiledFile(
        f"{folder}/listeners.yaml", discovery(listeners), f"Where the sidecar of {name} listens."
    )
    yield CompiledFile(
        f"{folder}/clusters.yaml", discovery(clusters), f"Whom the sidecar of {name} dials."
    )
    for file, header, resource in inbound_files(car):
        yield CompiledFile(f"{folder}/{file}", discovery([resource]), header)
