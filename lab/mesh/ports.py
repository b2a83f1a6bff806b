"""Whether the addresses of a mesh are free, asked before anything starts."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import suppress

from lab.mesh.addresses import BLOCKS, key
from lab.mesh.database import PORT
from lab.mesh.model import Mesh
from lab.mesh.processes import MeshError
from zt.placement import Address
from zt.wellknown import EVALUATOR_API, EVALUATOR_GRPC, EVALUATOR_HEALTH


def check_addresses(mesh: Mesh) -> None:
    """Every address must be free before anything starts.

    Raises:
        MeshError: naming the first that is not.
    """
    for what, address in _addresses(mesh):
        try:
            _bind(address)
        except OSError as error:
            raise MeshError(_unusable(what, address, error)) from None


def _unusable(what: str, address: Address, error: OSError) -> str:
    place = f"{address.host}:{address.port}"
    if error.errno == errno.EADDRINUSE:
        return (
            f"{place}, where {what} is to listen, is in use: stop the program that listens on port "
            f"{address.port}, or another mesh on this machine with `zt mesh down --state DIR`"
        )
    return f"{place}, where {what} is to listen, can't be used: {error.strerror}"


def _addresses(mesh: Mesh) -> Iterator[tuple[str, Address]]:
    yield "PostgreSQL", Address(mesh.plan.database, PORT)
    for cluster in mesh.clusters:
        for number in (EVALUATOR_GRPC, EVALUATOR_HEALTH):
            yield f"the evaluator of {cluster}", Address(mesh.plan.evaluator(cluster), number)
    for service in mesh.services:
        for port in service.ports:
            yield f"the sidecar of {key(service)}", mesh.placement.inbound(service, port.port)
            yield key(service), mesh.placement.application(service, port.port)


def _bind(address: Address) -> None:
    """Listen for a moment."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((address.host, address.port))
        probe.listen()


def page_of(mesh: Mesh) -> Address:
    """Where the graph page is served: the usual address for the first mesh if it is free there."""
    usual = Address("127.0.0.1", EVALUATOR_API)
    if mesh.plan.block == BLOCKS[0]:
        with suppress(OSError):
            _bind(usual)
            return usual
    return Address(mesh.plan.evaluator(mesh.clusters[0]), EVALUATOR_API)


def api(mesh: Mesh, cluster: str, page: Address) -> Address:
    """Where a cluster's evaluator serves its API: the first one's is the page that people open."""
    if cluster == mesh.clusters[0]:
        return page
    return Address(mesh.plan.evaluator(cluster), EVALUATOR_API)


def url(address: Address) -> str:
    """How a browser finds an address."""
    return f"http://{address.host}:{address.port}/"
