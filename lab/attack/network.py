"""Attacks by network: past the names, past the ports, past the sidecar."""

from __future__ import annotations

import base64
from collections.abc import Iterator

from lab.attack.model import Attack, Attempt, Dial, Family, Json, Layer, Plane, Stop
from lab.attack.scene import Position, Scene, Target
from zt.model import Protocol
from zt.wellknown import SIDECAR_HEALTH, SIDECAR_METRICS, SIDECAR_PROBES

# Seconds that a call may take: a packet that is dropped is never answered.
PATIENCE = 3.0
# Longer than a sidecar waits for a handshake (``transport_socket_connect_timeout``).
PATIENCE_WITH_SILENCE = 6.5
# Where the program itself listens in the target's pod, on TCP, and on UDP beside the declared port.
PLANTED = 4444
ALIAS_PORT = 80

# SSLRequest, which PostgreSQL answers with a byte (protocol 3.0, "Message Formats").
_SSL_REQUEST = (8).to_bytes(4, "big") + (80877103).to_bytes(4, "big")
# The audit database is the one that is no stand-in.
_POSTGRESQL = "zt-audit-db"
_LINE = "who are you?\n"
_ADMIN_PAGES = ("/config_dump", "/certs", "/clusters", "/quitquitquit", "/stats")

NETWORK_POLICY = Stop(Plane.NETWORK_POLICY, frozenset({Layer.NETWORK_POLICY}))


def network(scene: Scene) -> Iterator[Attempt]:
    """All attacks by network on all targets."""
    for target in scene.targets:
        yield from _plaintext(scene, target)
        yield from _other_names(scene, target)
        yield from _other_ports(scene, target)
        yield from _pages(scene, target)


def question(target: Target, host: str | None = None, port: int | None = None) -> Json:
    """A call to the target that its application would answer."""
    asked: Json = {
        "mode": "raw",
        "host": host or target.place.address,
        "port": port or target.port,
        "timeout": PATIENCE,
    }
    match target.protocol:
        case Protocol.TCP:  # it speaks first, so a sidecar waits for the TLS that never comes
            return asked | {"timeout": PATIENCE_WITH_SILENCE}
        case Protocol.HTTP | Protocol.GRPC:
            return asked | {"send": page("/metrics", target.service.name)}
        case Protocol.POSTGRES if target.service.name == _POSTGRESQL:
            return asked | {"sendBase64": base64.b64encode(_SSL_REQUEST).decode()}
        case _:
            return asked | {"send": _LINE}


def asked_for(target: Target, port: int, send: str) -> Json:
    """Something else that is asked of the target's pod."""
    address = target.place.address
    return {"mode": "raw", "host": address, "port": port, "timeout": PATIENCE, "send": send}


def page(path: str, host: str) -> str:
    """A request for a page."""
    return f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"


def against(attack: Attack, target: Target, action: Dial, *, named: bool = True) -> Attempt:
    """An attempt; ``named`` says that a record of it would name the target."""
    destination = target.spiffe if named else None
    return Attempt(attack, target.name, action, destination, target.port if named else 0)


def _no_plaintext(target: Target) -> Stop:
    """A sidecar's answer to plaintext: at the handshake, or at the chain that refuses pods."""
    layer = Layer.LISTENER if target.door else Layer.HANDSHAKE
    return Stop(Plane.REDIRECT, frozenset({layer}))


def _plaintext(scene: Scene, target: Target) -> Iterator[Attempt]:
    """To the pod's IP, as nobody in particular."""
    positions = [
        scene.stranger(target),
        scene.bare_pod(),
        scene.guest(),
        scene.client(target),
        None if target.door else scene.host(target),
    ]
    if scene.disguise in target.clients:
        positions.append(scene.disguised())
    for position in positions:
        if position is not None and position.service is not target.service:
            what = _who(scene, target, position)
            attack = Attack(
                f"plaintext to the pod's IP, from {what}",
                Family.NETWORK,
                _defence(target, position, _no_plaintext(target)),
            )
            yield against(attack, target, Dial(position.pod, question(target)))


def _who(scene: Scene, target: Target, position: Position) -> str:
    """The position by its kind, so that the same attack on all targets has one name."""
    if position.pod == getattr(scene.bare_pod(), "pod", ""):
        kind = "a declared client's pod" if target.admits(position) else "a pod"
        return f"{kind} without sidecar"
    if position.service is None:
        return position.what
    return "a declared client's pod" if target.admits(position) else "a pod of another service"


def _defence(target: Target, position: Position, *behind: Stop) -> tuple[Stop, ...]:
    return behind if target.admits(position) else (NETWORK_POLICY, *behind)


def _other_names(scene: Scene, target: Target) -> Iterator[Attempt]:
    """Through a Service that the attacker made."""
    for kind, position in (("inside", scene.client(target)), ("outside", scene.guest())):
        address = scene.aliases.get(f"{kind} {target.name}")
        if address is None or position is None:
            continue
        attack = Attack(
            f"through a Service of another name, from {_who(scene, target, position)}",
            Family.NETWORK,
            _defence(target, position, _no_plaintext(target)),
        )
        yield against(attack, target, Dial(position.pod, question(target, address, ALIAS_PORT)))


def _other_ports(scene: Scene, target: Target) -> Iterator[Attempt]:
    """What no rule declares, from a client that a rule lets in elsewhere."""
    position = scene.client(target)
    if position is None or _collects_metrics(scene, position):
        position = scene.stranger(target)
    if position is None:
        return
    for name, asked in _questions_elsewhere(target):
        attack = Attack(f"{name} of the pod, from a pod", Family.NETWORK, (NETWORK_POLICY,))
        yield against(attack, target, Dial(position.pod, asked), named=False)
    own = question(target, port=target.inbound)
    sidecar = Attack(
        "the sidecar's own inbound port, in plaintext",
        Family.NETWORK,
        (NETWORK_POLICY, Stop(None, _no_plaintext(target).layers)),
    )
    yield against(sidecar, target, Dial(position.pod, own))


def _collects_metrics(scene: Scene, position: Position) -> bool:
    """Whether a position is that of who may ask every sidecar for its metrics."""
    metrics = scene.effective.mesh.infrastructure.metrics
    return position.service is not None and position.service.name == metrics


def _questions_elsewhere(target: Target) -> Iterator[tuple[str, Json]]:
    yield "UDP on the declared port", asked_for(target, target.port, _LINE) | {"mode": "udp"}
    yield "an undeclared port", asked_for(target, PLANTED, _LINE)
    for name, port in (
        ("the metrics port", SIDECAR_METRICS),
        ("the health port", SIDECAR_HEALTH),
        ("the probes' port", SIDECAR_PROBES),
    ):
        path = "/ready" if port == SIDECAR_HEALTH else "/stats/prometheus"
        yield name, asked_for(target, port, page(path, target.service.name))


def _pages(scene: Scene, target: Target) -> Iterator[Attempt]:
    """Envoy's admin pages, from who may read its metrics."""
    metrics = scene.effective.find(scene.cluster, scene.effective.mesh.infrastructure.metrics)
    if metrics is None or metrics.service.name not in scene.callers:
        return
    reader = scene.of(metrics.service)
    if reader.service is target.service:
        return
    for path in _ADMIN_PAGES:
        attack = Attack(
            f"Envoy's {path} by the metrics port, from who may scrape it",
            Family.NETWORK,
            (Stop(None, frozenset({Layer.ROUTE})),),
        )
        asked = asked_for(target, SIDECAR_METRICS, page(path, target.service.name))
        yield against(attack, target, Dial(reader.pod, asked), named=False)
