"""Services and what is outside: each can be found, told apart, and called."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from zt.check.facts import Facts
from zt.check.report import error, listed, repeated, warning
from zt.model import ExternalService, Mesh, Outside, Service
from zt.position import Finding, Where
from zt.wellknown import (
    GATEWAY_LOCAL,
    GATEWAY_TUNNEL,
    SIDECAR_HEALTH,
    SIDECAR_INBOUND,
    SIDECAR_METRICS,
    SIDECAR_PROBES,
)

Label = tuple[str, str]

_SIDECAR_PORTS = 100  # one for each declared port, and nobody has declared as many


def check(facts: Facts) -> Iterator[Finding]:
    """Places, ports and selectors of services; addresses of externals."""
    for service in facts.policy.services:
        yield from _place(facts, service)
        yield from _ports(facts.mesh, service)
    yield from _selectors(facts)
    for external in facts.policy.externals:
        yield from _external(external)


def _place(facts: Facts, service: Service) -> Iterator[Finding]:
    mesh, cluster = facts.mesh, service.cluster
    if cluster not in facts.places:
        hint = facts.hints.name(cluster, facts.places)
        message = f"{cluster!r} is neither a cluster of the mesh nor a place outside{hint}"
        yield error("unknown-cluster", service.where.field("cluster"), message)
    elif service.outside is None and mesh.cluster(cluster) is None:
        message = (
            f"{service.name!r} runs outside Kubernetes, in {cluster!r}: it needs 'outside' with "
            "the cluster that registers it and the selectors that attest it"
        )
        yield error("outside-missing", service.where.field("cluster"), message)
    elif service.outside and mesh.cluster(cluster):
        message = (
            f"{service.name!r} runs in cluster {cluster!r}, so it has no 'outside': take it away, "
            "or name a place outside as its cluster"
        )
        yield error("outside-unneeded", service.where.field("outside"), message)
    if service.outside:
        yield from _outside(facts, service.outside)


def _outside(facts: Facts, outside: Outside) -> Iterator[Finding]:
    where, clusters = outside.where, [cluster.name for cluster in facts.mesh.clusters]
    if not outside.cidrs:
        message = "without 'cidrs' no gateway lets it in: list the addresses that it calls from"
        yield warning("no-way-in", where, message)
    if outside.registrar not in clusters:
        hint = facts.hints.name(outside.registrar, clusters)
        message = f"registrar {outside.registrar!r} is not a cluster of the mesh{hint}"
        yield error("unknown-cluster", where.field("registrar"), message)
    for index, selector in enumerate(outside.selectors):
        kind, colon, value = selector.partition(":")
        if not (kind and colon and value):
            message = f"{selector!r} is not a SPIRE selector such as 'unix:user:runner'"
            yield error("bad-selector", where.field("selectors", index), message)
    if "://" in outside.parent or outside.parent.startswith("/") or outside.parent.endswith("/"):
        message = (
            f"{outside.parent!r} is not the path of a SPIFFE ID such as "
            "'spire/agent/x509pop/ci-runner': leave out the trust domain and the first '/'"
        )
        yield error("bad-parent", where.field("parent"), message)


def _ports(mesh: Mesh, service: Service) -> Iterator[Finding]:
    taken = {SIDECAR_METRICS, SIDECAR_HEALTH, SIDECAR_PROBES}
    if service.name == mesh.infrastructure.gateway:
        taken |= {GATEWAY_LOCAL, GATEWAY_TUNNEL}
    for number, where in _numbers(service):
        if number in taken or 0 <= number - SIDECAR_INBOUND < _SIDECAR_PORTS:
            message = (
                f"port {number} is taken by the sidecar, which uses "
                f"{', '.join(map(str, sorted(taken)))} and {SIDECAR_INBOUND} to "
                f"{SIDECAR_INBOUND + _SIDECAR_PORTS - 1}: choose another"
            )
            yield error("sidecar-port", where, message)
    yield from _peer_ports(service)
    for index, number in repeated(port.port for port in service.ports):
        message = f"{service.name!r} declares port {number} twice"
        yield error("duplicate-port", service.ports[index].where.field("port"), message)


def _numbers(service: Service) -> Iterator[tuple[int, Where]]:
    """All ports that its pods listen on, and where each stands."""
    for port in service.ports:
        yield port.port, port.where.field("port")
    for index, number in enumerate(service.peer_ports):
        yield number, service.where.field("peerPorts", index)


def _peer_ports(service: Service) -> Iterator[Finding]:
    """They are for pods of the service alone; the sidecar must not have them."""
    if service.peer_ports and service.outside:
        message = (
            f"{service.name!r} runs outside Kubernetes, where no NetworkPolicy holds peerPorts"
        )
        yield error("peer-port", service.where.field("peerPorts"), message)
    for index, number in enumerate(service.peer_ports):
        if service.port(number):
            message = (
                f"port {number} is declared, so the sidecar takes what comes to it: let pods of "
                f"{service.name!r} reach each other on another port"
            )
            yield error("peer-port", service.where.field("peerPorts", index), message)
    for index, number in repeated(service.peer_ports):
        message = f"{service.name!r} lists peer port {number} twice"
        yield error("duplicate-port", service.where.field("peerPorts", index), message)


def _selectors(facts: Facts) -> Iterator[Finding]:
    """Services of one namespace whose pods a NetworkPolicy could not tell apart."""
    places: dict[tuple[str, str], list[Service]] = defaultdict(list)
    for service in facts.policy.services:
        if service.outside is None:
            places[service.cluster, service.namespace].append(service)
    for neighbours in places.values():
        selectors = [(service, frozenset(service.labels.items())) for service in neighbours]
        yield from _overlaps(selectors)


def _overlaps(selectors: list[tuple[Service, frozenset[Label]]]) -> Iterator[Finding]:
    """A selector names all pods of another where its labels are among the other's.

    Each is filed under its rarest label, so that few are compared.
    """
    count = Counter(label for _, labels in selectors for label in labels)
    filed: dict[Label, list[tuple[Service, frozenset[Label]]]] = defaultdict(list)
    for service, labels in selectors:
        filed[min(labels, key=lambda label: (count[label], label))].append((service, labels))
    for service, labels in selectors:
        wider = (
            other
            for label in sorted(labels)
            for other, fewer in filed[label]
            if fewer < labels or (fewer == labels and other.name < service.name)
        )
        other = next(wider, None)
        if other:
            yield _overlap(service, other)


def _overlap(service: Service, other: Service) -> Finding:
    selector = listed(f"{key}: {value}" for key, value in sorted(other.labels.items()))
    message = (
        f"pods of {service.name!r} are selected by {other.name!r} ({selector}) as well, so no "
        "NetworkPolicy could tell them apart: give each a label that the other has not"
    )
    return error("selector-overlap", service.where.field("selector"), message)


def _external(external: ExternalService) -> Iterator[Finding]:
    where = external.where
    if not external.cidrs and not external.hosts:
        message = f"{external.name!r} has neither 'cidrs' nor 'hosts': nothing could hold it"
        yield error("no-address", where.field("name"), message)
    for field, values in (
        ("cidrs", external.cidrs),
        ("hosts", external.hosts),
        ("ports", external.ports),
    ):
        for index, value in repeated(values):
            message = f"{external.name!r} lists {value} twice"
            yield warning("duplicate-value", where.field(field, index), message)
