"""Probes under enforcement: green, and answered by the application, which the sidecar asks.

The kubelet asks from the node, so this does as well.
"""

from __future__ import annotations

import http.client
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial

from lab.check.model import BrokenError, Check, Json, Judge, Place, Site, all_of, each, pid_of
from lab.verify.network import within
from zt.inject.containers import CONTAINERS
from zt.inject.probes import KINDS
from zt.model import Phase
from zt.wellknown import SIDECAR_PROBES

_PATIENCE = 5.0
_OK = 200
_UNWELL = 503
_HANDLERS = ("httpGet", "tcpSocket", "grpc")
# The sidecar asks every few seconds, and waits a second for the answer.
_NOTICED = 20.0
_PAUSE = 0.2


def probes(site: Site) -> Iterator[Check]:
    """Every probe of every pod, what plaintext gets in its place, and one that must turn red."""
    yield from each("probes", _enforced(site), partial(_green, site))
    yield from each("no probe in plaintext", _closed(site), partial(_plaintext, site))
    # One is enough, and stopping a program is rude.
    yield from all_of("probe follows the application", _stoppable(site))


def _enforced(site: Site) -> list[Place]:
    return [p for p in site.places if p.has_sidecar and p.declared.phase is Phase.ENFORCE]


def _closed(site: Site) -> list[Place]:
    """Pods whose ports are for the mesh alone: where the outside is let in, plaintext may be."""
    served = (p for p in _enforced(site) if p.is_served)
    return [p for p in served if not any(i.externals for i in p.declared.inbound)]


def asked_of(manifest: Json) -> Iterator[tuple[str, str, int | None, str]]:
    """Container, kind, port and path of each probe of a pod's own containers."""
    for container in manifest["spec"]["containers"]:
        if container["name"] not in CONTAINERS:
            for kind in KINDS:
                if kind in container:
                    yield container["name"], kind, *_target(container, kind)


def _green(site: Site, place: Place) -> str:
    if not place.pod.ready:
        raise BrokenError("the pod is not ready")
    captured = {inbound.port.port for inbound in place.declared.inbound}
    said = []
    for container, kind, port, path in asked_of(place.manifest):
        if port in captured:
            raise BrokenError(f"{kind} of {container} asks port {port} past the sidecar")
        if port == SIDECAR_PROBES:
            said.append(_asked(site, place, path))
    if said and _get(site, place, SIDECAR_PROBES, "/") == _OK:
        raise BrokenError("the sidecar answers probes that nobody declared")
    return ", ".join(said) or "none over the network on a captured port"


def _target(container: Json, kind: str) -> tuple[int | None, str]:
    """Port and path that a probe asks; no port where it asks nobody."""
    content = container[kind]
    handler: Json = next((content[name] for name in _HANDLERS if name in content), {})
    port = handler.get("port")
    if isinstance(port, str):
        named = {item.get("name"): item["containerPort"] for item in container.get("ports") or ()}
        port = named.get(port)
    return port, handler.get("path", "")


def _asked(site: Site, place: Place, path: str) -> str:
    status = _get(site, place, SIDECAR_PROBES, path)
    if status != _OK:
        raise BrokenError(f"{path} is answered with {status}")
    return f"{path} {status}"


def _plaintext(site: Site, place: Place) -> str:
    """What the probe would have met: nobody answers plaintext on the application's own ports."""
    said = []
    for inbound in place.declared.inbound:
        port = inbound.port.port
        try:
            status = _get(site, place, port, "/healthz")
        except OSError as error:
            said.append(f"{port} {type(error).__name__}")
        else:
            raise BrokenError(f"port {port} answers plaintext with {status}")
    return ", ".join(said) or "no port"


def _get(site: Site, place: Place, port: int, path: str) -> int:
    """The status of a page of a pod, asked for from its node.

    Raises:
        OSError: if it answers no HTTP.
    """
    target = (place.address, port)
    plain = within(site.outside(place), lambda: socket.create_connection(target, _PATIENCE))
    connection = http.client.HTTPConnection(*target, timeout=_PATIENCE)
    connection.sock = plain
    with closing(connection):
        try:
            connection.request("GET", path, headers={"User-Agent": "kube-probe/lab"})
            return connection.getresponse().status
        except http.client.HTTPException as error:
            raise ConnectionError(repr(error)) from None


# --- An application that stops answering ----------------------------------------------------------


def _stoppable(site: Site) -> Iterator[tuple[str, Judge]]:
    """One pod of no critical service, with a readiness probe that the sidecar makes."""
    for place in sorted(_closed(site), key=lambda p: p.declared.service.critical):
        for container, kind, port, path in asked_of(place.manifest):
            if kind == "readinessProbe" and port == SIDECAR_PROBES:
                yield place.name, partial(_follows, site, place, container, path)
                return


def _follows(site: Site, place: Place, container: str, path: str) -> str:
    pid = pid_of(place, container)
    os.kill(pid, signal.SIGSTOP)
    try:
        red = _becomes(site, place, path, _UNWELL)
    finally:
        os.kill(pid, signal.SIGCONT)
    green = _becomes(site, place, path, _OK)
    return f"red {red:.1f} s after it stopped, green {green:.1f} s after it went on"


def _becomes(site: Site, place: Place, path: str, wanted: int) -> float:
    begun = time.monotonic()
    while (status := _get(site, place, SIDECAR_PROBES, path)) != wanted:
        if time.monotonic() - begun > _NOTICED:
            raise BrokenError(f"{path} is still answered with {status} after {_NOTICED:.0f} s")
        time.sleep(_PAUSE)
    return time.monotonic() - begun
