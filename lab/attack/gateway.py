"""Attacks on the way to other clusters: names that no rule declares, at the gateway's Envoy.

It passes TLS on by its SNI. They come from a pod that has declared business there, with its own
certificate, so that the name alone decides.
"""

from __future__ import annotations

from collections.abc import Iterator

from lab.attack.identity import STOLEN
from lab.attack.model import Attack, Attempt, Dial, Family, Json, Layer, Stop
from lab.attack.network import asked_for
from lab.attack.scene import Scene, Target
from zt.effective import Grant
from zt.model import Service
from zt.wellknown import ALPN, GATEWAY_LOCAL, server_name

_NO_ROUTE = (Stop(None, frozenset({Layer.GATEWAY})),)
_LINE = "who are you?\n"


def gateway(scene: Scene) -> Iterator[Attempt]:
    """All attacks on the gateway of the cluster; none where it has none, or nobody may use it."""
    name = scene.effective.mesh.infrastructure.gateway
    target = next((t for t in scene.targets if t.service.name == name), None)
    caller = next((s for s in scene.services if any(_leaving(scene, s))), None)
    if target is None or caller is None:
        return
    for what, asked in _questions(scene, target):
        attack = Attack(f"{what}, at the gateway", Family.IDENTITY, _NO_ROUTE)
        svid = f"{STOLEN}/{caller.name}" if "tls" in asked else None
        action = Dial(scene.places[caller.name].pod, asked, svid, by_gateway=True)
        yield Attempt(attack, target.name, action)


def _questions(scene: Scene, target: Target) -> Iterator[tuple[str, Json]]:
    plain = asked_for(target, GATEWAY_LOCAL, _LINE)
    yield "plaintext", plain
    yield "TLS without SNI", plain | {"tls": {"alpn": [ALPN]}}
    for what, found in (
        ("the SNI of a service of another cluster that nobody here may call", _undeclared(scene)),
        ("the SNI of a service of the own cluster", _name(target.service, target.port)),
    ):
        if found is not None:
            yield what, plain | {"tls": {"serverName": found, "alpn": [ALPN]}}


def _leaving(scene: Scene, service: Service) -> Iterator[Grant]:
    """What a service may call in other clusters."""
    item = scene.effective.find(scene.cluster, service.name)
    for grant in item.upstreams if item else ():
        if isinstance(grant.destination, Service) and grant.destination.cluster != scene.cluster:
            yield grant


def _undeclared(scene: Scene) -> str | None:
    """The name of a port elsewhere that no service of this cluster may call."""
    here = scene.effective.in_cluster(scene.cluster)
    called = {
        _name(grant.destination, grant.port)
        for item in here
        for grant in _leaving(scene, item.service)
        if isinstance(grant.destination, Service)
    }
    names = (
        _name(item.service, port.port)
        for item in scene.effective.services
        for port in item.service.ports
        if item.service.cluster != scene.cluster
    )
    return next((name for name in names if name not in called), None)


def _name(service: Service, port: int) -> str:
    return server_name(port, service.name, service.namespace, service.cluster)
