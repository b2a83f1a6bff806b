"""Attacks by identity: with certificates of others, of nobody, of yesterday, and with none.

They start where NetworkPolicies let one through, so that the certificate alone decides.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace

from lab.attack.model import Attack, Attempt, Dial, Family, Json, Layer, Plane, Stop
from lab.attack.network import NETWORK_POLICY, against, question
from lab.attack.scene import Position, Scene, Target
from zt.model import Protocol, Service
from zt.wellknown import ALPN, server_name

# Kinds of certificates; what a name such as ``stolen/<service>`` begins with.
STOLEN, EXPIRED, OTHER_CA = "stolen", "expired", "other-ca"
OTHER_CLUSTER, OTHER_DOMAIN, UNDECLARED = "other-cluster", "other-domain", "undeclared"
OTHER_DOMAIN_OTHER_CA = "other-domain-other-ca"
# Before the name of one that was stolen a while ago.
AGED = "aged-"

_GREETED = "an SVID that no list has, to a server that speaks first"

# The trust in the one root is in no list: it stays when lists admit everybody.
_UNTRUSTED = Stop(None, frozenset({Layer.HANDSHAKE}), behind_redirect=True)
_UNLISTED = (
    Stop(Plane.HANDSHAKE, frozenset({Layer.HANDSHAKE})),
    Stop(Plane.EVALUATOR, frozenset({Layer.EVALUATOR})),
    Stop(Plane.RBAC, frozenset({Layer.RBAC})),
)
# The evaluator knows whose pod has which address, and has it from no policy. Of a node's it knows
# nothing.
_ANOTHERS = Stop(None, frozenset({Layer.EVALUATOR}), behind_redirect=True)
# No list declares them, the evaluator's own included.
_UNKNOWN = (Stop(Plane.HANDSHAKE, frozenset({Layer.HANDSHAKE})), _ANOTHERS)
_NO_CHAIN = Stop(None, frozenset({Layer.LISTENER}), behind_redirect=True)


@dataclass(frozen=True, slots=True)
class _Trick:
    """A certificate (``None``: none), and what is said around it."""

    name: str
    svid: str | None
    defence: tuple[Stop, ...]
    tls: Json


def identity(scene: Scene) -> Iterator[Attempt]:
    """All attacks by identity on all targets."""
    for target in scene.targets:
        position = scene.client(target) or scene.host(target)
        for trick in _tricks(scene, target, position):
            yield _attempt(target, position, _to_who_greets(target, trick))
        if target.protocol is Protocol.TCP:
            yield from _after_greeting(scene, target, position)
        yield from _from_the_node(scene, target)
        yield from _elsewhere(scene, target)


def aged(attempts: Iterable[Attempt], expired: Collection[str]) -> Iterator[Attempt]:
    """The attempts with SVIDs that have been stolen and have expired since, by their names."""
    attack = Attack(
        "a stolen SVID that has expired since", Family.IDENTITY, (_UNTRUSTED,), garbled=True
    )
    for attempt in attempts:
        action = attempt.action
        if isinstance(action, Dial) and action.svid in expired:
            yield replace(
                attempt, attack=attack, action=replace(action, svid=f"{AGED}{action.svid}")
            )


def _attempt(target: Target, position: Position, trick: _Trick) -> Attempt:
    attack = Attack(trick.name, Family.IDENTITY, trick.defence, garbled=True)
    asked = question(target) | {"tls": trick.tls}
    return against(attack, target, Dial(position.pod, asked, trick.svid))


def _to_who_greets(target: Target, trick: _Trick) -> _Trick:
    """The same against a server that speaks first.

    The evaluator and the list behind it act on the first byte of the client: too late to keep the
    greeting back. That is for the handshake alone.
    """
    first = tuple(stop for stop in trick.defence if stop.layers == {Layer.HANDSHAKE})
    if target.protocol is not Protocol.TCP or first == trick.defence:
        return trick
    return replace(trick, name=_GREETED, defence=first)


def _after_greeting(scene: Scene, target: Target, position: Position) -> Iterator[Attempt]:
    """A line to a server that speaks first, which is to get no answer, greeted or not."""
    stranger = scene.stranger_service(target)
    if stranger is None:
        return
    attack = Attack(
        "a stolen SVID of a service that may not call, behind a server's greeting",
        Family.IDENTITY,
        _unlisted(position),
        garbled=True,
    )
    asked = _asked(target) | {"tls": offered(target)}
    yield against(attack, target, Dial(position.pod, asked, f"{STOLEN}/{stranger.name}"))


def _tricks(scene: Scene, target: Target, position: Position) -> Iterator[_Trick]:
    right = offered(target)
    friend, stranger = _friend(target, position), scene.stranger_service(target)
    yield _Trick("TLS without a client certificate", None, (_UNTRUSTED,), right)
    for what, kind in (
        ("an SVID of another CA", OTHER_CA),
        ("an SVID that has expired", EXPIRED),
    ):
        yield _Trick(f"{what}, of a declared client", f"{kind}/{friend}", (_UNTRUSTED,), right)
    yield _Trick(
        "an SVID of another trust domain and CA", OTHER_DOMAIN_OTHER_CA, (_UNTRUSTED,), right
    )
    # Our CA is none for it: names are constrained, whatever it signs.
    yield _Trick("an SVID of another trust domain, of our CA", OTHER_DOMAIN, (_UNTRUSTED,), right)
    yield _Trick("an SVID of a service that nobody declares", UNDECLARED, _UNKNOWN, right)
    yield _Trick(
        "an SVID of another cluster's service of a client's name",
        f"{OTHER_CLUSTER}/{friend}",
        _UNKNOWN,
        right,
    )
    if stranger is not None:
        stolen = f"{STOLEN}/{stranger.name}"
        yield _Trick(
            "a stolen SVID of a service that may not call", stolen, _unlisted(position), right
        )
        yield from _names(scene, target, position, stranger)


def _names(scene: Scene, target: Target, position: Position, stranger: Service) -> Iterator[_Trick]:
    """A stolen SVID under other names, protocols and versions."""
    right, stolen = offered(target), f"{STOLEN}/{stranger.name}"
    unlisted = _unlisted(position)
    elsewhere = next((t for t in scene.targets if stranger in t.clients), None)
    if elsewhere is not None:
        yield _Trick(
            "a stolen SVID, with the SNI of a port that it may call",
            stolen,
            unlisted,
            right | {"serverName": offered(elsewhere)["serverName"]},
        )
    yield _Trick("a stolen SVID, without SNI", stolen, unlisted, {"alpn": right["alpn"]})
    if not (target.door and position.node):  # the node may come in as everybody may
        # Where the outside is let in, what is no mesh TLS has a chain, which refuses pods.
        closed = (_NO_CHAIN,) if target.door else unlisted
        nameless = {"serverName": right["serverName"]}
        yield _Trick("a stolen SVID, without ALPN", stolen, closed, nameless)
        yield _Trick("a stolen SVID, with ALPN h2", stolen, closed, right | {"alpn": ["h2"]})
    yield _Trick("a stolen SVID, with TLS 1.2", stolen, (_UNTRUSTED,), right | {"version": "1.2"})


def _elsewhere(scene: Scene, target: Target) -> Iterator[Attempt]:
    """The SVID of a declared client, from where that client is not."""
    friend = scene.client(target)
    if friend is None or friend.service is None:
        return
    stolen = f"{STOLEN}/{friend.service.name}"
    for what, position in (
        ("a pod of another service", scene.stranger(target)),
        ("a pod outside the mesh", scene.guest()),
    ):
        if position is not None:
            name = f"a stolen SVID of a declared client, from {what}"
            attack = Attack(name, Family.IDENTITY, (NETWORK_POLICY, _ANOTHERS), garbled=True)
            asked = _asked(target) | {"tls": offered(target)}
            yield against(attack, target, Dial(position.pod, asked, stolen))


def _asked(target: Target) -> Json:
    """A question that is to get no answer; a greeting, which comes before it, is none."""
    asked = question(target)
    if target.protocol is not Protocol.TCP:
        return asked
    return asked | {"mode": "line", "greeted": True}


def _from_the_node(scene: Scene, target: Target) -> Iterator[Attempt]:
    """From where no pod is known by its address, so that the lists alone decide."""
    stranger = scene.stranger_service(target)
    if stranger is not None and scene.client(target) is not None:
        name = "a stolen SVID of a service that may not call, from the node of the pod"
        trick = _Trick(name, f"{STOLEN}/{stranger.name}", _UNLISTED, offered(target))
        yield _attempt(target, scene.host(target), _to_who_greets(target, trick))


def _unlisted(position: Position) -> tuple[Stop, ...]:
    """What refuses the SVID of a service that no list of the port has."""
    return _UNLISTED if position.node else (_UNLISTED[0], _ANOTHERS)


def offered(target: Target) -> Json:
    """What a sidecar offers when it calls a port."""
    service = target.service
    name = server_name(target.port, service.name, service.namespace, service.cluster)
    return {"serverName": name, "alpn": [ALPN]}


def _friend(target: Target, position: Position) -> str:
    """A declared client whose ID is forged; where none is declared, the target's own."""
    if position.service is not None:
        return position.service.name
    return target.clients[0].name if target.clients else target.service.name
