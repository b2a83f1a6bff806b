"""Which flows run: every declared edge between the teams' services, and others that may not pass.

Pure: what is there is given. What may not pass is tried the ways that an application has: whom
nobody lets it call, and whom it may call, but past its own sidecar, in plaintext, to a pod.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from lab.faults.tally import Edge, Flow
from lab.faults.traffic import Dialled, Json
from zt.effective import Effective, EffectiveService
from zt.model import Protocol, Service
from zt.placement import names

# Seconds between two attempts of a flow, and how long one may take.
_EVERY, _PATIENCE = 0.5, 5.0
_EVERY_REFUSED, _PATIENCE_REFUSED = 2.0, 2.0
# Counts of a caller that dies are not older than this.
_SUMS = 1.0
# So many ways in are tried from each pod, of each kind.
_TRIES = 2
_LINES = {Protocol.TCP, Protocol.POSTGRES, Protocol.REDIS}


@dataclass(frozen=True, slots=True)
class Place:
    """A service as it runs: addresses of its pods, by ``<namespace>/<name>``, and its ClusterIP.

    ``address`` is ``None`` where the Service is headless.
    """

    service: Service
    pods: Mapping[str, str]
    address: str | None


def dialled(effective: Effective, places: Collection[Place]) -> tuple[Dialled, ...]:
    """All flows of one cluster, of the places that run in it."""
    running = {place.service: place for place in places if place.pods}
    found: list[Dialled] = []
    for item in effective.services:
        place = running.get(item.service)
        if place is not None:
            found += _declared(effective, item, place, running)
            found += _refused(effective, item, place, running)
    return tuple(found)


def crossing(
    effective: Effective, places: Collection[Place], beyond: Collection[Place]
) -> tuple[Dialled, ...]:
    """All declared flows from places of one cluster to those of others, through the tunnel."""
    here = {place.service: place for place in places if place.pods}
    there = {place.service: place for place in beyond if place.pods}
    return tuple(
        flow
        for item in effective.services
        if item.service in here
        for flow in _declared(effective, item, here[item.service], there)
    )


def _declared(
    effective: Effective,
    item: EffectiveService,
    place: Place,
    running: Mapping[Service, Place],
) -> Iterator[Dialled]:
    """By name, as the application would: its sidecar listens there."""
    for grant in item.upstreams:
        to = running.get(grant.destination) if isinstance(grant.destination, Service) else None
        if to is None:
            continue
        host = _name(item.service, to.service)
        question = asked(to.service, grant.port, host)
        yield _of(effective, place, to, grant.port, question)


def _refused(
    effective: Effective,
    item: EffectiveService,
    place: Place,
    running: Mapping[Service, Place],
) -> Iterator[Dialled]:
    granted = {(grant.destination.name, grant.port) for grant in item.upstreams}
    ports = [
        (to, port.port)
        for to in running.values()
        for port in to.service.ports
        if to.service is not item.service
    ]
    others = [(to, port) for to, port in ports if (to.service.name, port) not in granted]
    for to, port in _some(others, len(item.service.name)):
        address = to.address or next(iter(to.pods.values()))
        question = asked(to.service, port, address, _EVERY_REFUSED, _PATIENCE_REFUSED)
        yield _of(effective, place, to, port, question, "undeclared")
    allowed = [(to, port) for to, port in ports if (to.service.name, port) in granted]
    for to, port in _some(allowed, 0):
        (address, *_) = to.pods.values()
        question = asked(to.service, port, address, _EVERY_REFUSED, _PATIENCE_REFUSED)
        yield _of(effective, place, to, port, question, "past the sidecar, in plaintext")


def _some(found: list[tuple[Place, int]], start: int) -> list[tuple[Place, int]]:
    """A few of them, beginning elsewhere for each service, so that together they are many."""
    turned = [found[(start + number) % len(found)] for number in range(len(found))]
    return turned[:_TRIES]


def _of(  # noqa: PLR0913, PLR0917 - a flow's own parts
    effective: Effective, origin: Place, to: Place, port: int, question: Json, how: str = ""
) -> Dialled:
    pod = min(origin.pods)
    edge = Edge(origin.service.spiffe(effective.mesh), to.service.spiffe(effective.mesh), port)
    flow = Flow(edge, pod, frozenset({pod, *to.pods}), declared=not how, how=how)
    return Dialled(flow, question)


def _name(source: Service, to: Service) -> str:
    known = names(source, to)
    return known[0] if source.cluster == to.cluster else known[-1]


def asked(
    to: Service, port: int, host: str, every: float = _EVERY, patience: float = _PATIENCE
) -> Json:
    """How the caller is asked for a flow to a port, which the service declares."""
    declared = to.port(port)
    assert declared is not None  # noqa: S101 - it is one of the service's
    return {
        "mode": "steady",
        "speaks": "line" if declared.protocol in _LINES else "http",
        "greeted": declared.protocol is Protocol.TCP,
        "host": host,
        "port": port,
        "interval": every,
        "timeout": patience,
        "sums": _SUMS,
    }
