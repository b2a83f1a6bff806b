"""DNS in every application's container, and the peers of StatefulSets by their own names."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from lab.check.model import BrokenError, Check, Judge, Place, Site, all_of, asking, each
from lab.services.dialing import NAME
from lab.services.manifests import PEERS
from zt.model import Port

_DOMAIN = "svc.cluster.local"
KUBERNETES = f"kubernetes.default.{_DOMAIN}"
# Of the cluster's own domain: whether there is such a name, its DNS alone knows.
_NOBODY = f"nobody.default.{_DOMAIN}"
# A datagram to a port that nobody has (RFC 863) shows whom a name means, and nothing else.
_DISCARD = 9
_PATIENCE = 10.0
_SHORT = 0.3
# What is refused is mostly refused by silence.
_REFUSED = 3.0
# How a resolver that got no answer puts it (EAI_AGAIN, in the C library's words).
_AGAIN = "Temporary failure"


def names(site: Site) -> Iterator[Check]:
    """Whether the application of each pod resolves what there is, and is told what there is not."""
    service = site.api.get("/api/v1/namespaces/default/services/kubernetes")
    yield from each("DNS", site.places, partial(_resolves, site, service["spec"]["clusterIP"]))


def _resolves(site: Site, expected: str, place: Place) -> str:
    address = resolved(site, place, KUBERNETES)
    if address != expected:
        raise BrokenError(f"{KUBERNETES} is {address}, and should be {expected}")
    if (found := resolved(site, place, _NOBODY)) is not None:
        raise BrokenError(f"{_NOBODY} is {found}")
    return f"{KUBERNETES} is {address}"


def resolved(site: Site, place: Place, name: str) -> str | None:
    """Whom a name means to a pod's application; ``None`` if nobody.

    Raises:
        LabError: if nobody tells.
    """
    error = ""
    for patience in (_SHORT, _PATIENCE):
        answer = site.ask(place, mode="udp", host=name, port=_DISCARD, timeout=patience)
        if "peer" in answer:
            return str(answer["peer"].rpartition(":")[0])
        if answer["error"] == NAME and _AGAIN not in answer["detail"]:
            return None
        error = str(answer["error"])
    raise BrokenError(f"nobody tells who {name} is: {error}")


# --- StatefulSets ---------------------------------------------------------------------------------


def peers(site: Site) -> Iterator[Check]:
    """Whether the pods of each StatefulSet find each other, and reach whom the policy says."""
    yield from all_of("StatefulSet peers", _pairs(site))


def _pairs(site: Site) -> Iterator[tuple[str, Judge]]:
    for item in site.api.get("/apis/apps/v1/statefulsets")["items"]:
        own = item["metadata"]["namespace"], item["metadata"]["name"]
        pods = [place for place in site.places if (place.pod.namespace, _owner(place)) == own]
        # A set of one has no peers.
        for source in pods if len(pods) > 1 else ():
            for destination in pods:
                short = f"{destination.pod.name}.{item['spec']['serviceName']}"
                judge = partial(_peer, site, source, destination, short)
                yield f"{source.name} to {destination.pod.name}", judge


def _owner(place: Place) -> str | None:
    owners = place.manifest["metadata"].get("ownerReferences") or ()
    return next((owner["name"] for owner in owners if owner["kind"] == "StatefulSet"), None)


def _peer(site: Site, source: Place, destination: Place, short: str) -> str:
    name = f"{short}.{destination.pod.namespace}.{_DOMAIN}"
    address = resolved(site, source, name)
    if address != destination.address:
        raise BrokenError(f"{name} is {address}, and should be {destination.address}")
    ports = (*destination.declared.service.ports, PEERS)
    said = ", ".join(_reached(site, source, destination, port, name) for port in ports)
    return f"{name} is {address}; {said}"


def _reached(site: Site, source: Place, destination: Place, port: Port, name: str) -> str:
    # What a pod dials of its own stays in it; peers of one service have ports of their own.
    own = source is destination or port.port in destination.declared.service.peer_ports
    may = own or site.may(source, destination, port.port)
    asked = {**asking(port.protocol), "timeout": _PATIENCE if may else _REFUSED}
    answer = site.ask(source, host=name, port=port.port, **asked)
    if answer["ok"] is not may:
        raise BrokenError(
            f"{port.port} of {name} should {'' if may else 'not '}be reached: {answer}"
        )
    return f"{port.port} {'reached' if may else answer['error']}"
