"""What is proved of a tunnel; each proof yields checks, and leaves all as it was."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial

from lab.check.model import BrokenError, Check, Judge, all_of
from lab.cluster.network import NAMESPACES, entered, run
from lab.tunnel.alerts import raised
from lab.tunnel.rules import dropping, ruled
from lab.tunnel.site import Gateway, Tunnels, are_up, eventually
from lab.tunnel.traffic import answers, pinging, streaming
from lab.tunnel.wire import watched

Proof = Callable[[Tunnels], Iterator[Check]]

# What is raised while a peer is down (docs/monitoring/alerts.yaml).
DOWN = "ZTTunnelDown"
# Within so many seconds of the end of its cause a failure is over.
BACK = 10.0
_LONG = 60.0
# Besides the time that the old lane stays.
_ROTATION = 60.0
_ROTATIONS = 3
_BLOCKED = 30.0
_WATCHED = 5.0
_NEAR = 1.0
# Where a cluster is seen while it is elsewhere.
_MOVED = "192.0.2.199"
_PORTS = "{ 51820, 51821 }"


def one(name: str, subject: str, judge: Judge) -> Iterator[Check]:
    """A single check."""
    yield from all_of(name, [(subject, judge)])


# --- The wire -------------------------------------------------------------------------------------


def wire(tunnels: Tunnels) -> Iterator[Check]:
    """Between the clusters' addresses there is WireGuard, and nothing else."""
    tunnels.say("watching the Internet between the clusters")
    yield from one("the wire", "between clusters", partial(_wire, tunnels))


def _wire(tunnels: Tunnels) -> str:
    near, far = tunnels.pair()
    ends = [tunnels.outside(name) for name in tunnels.lab.clusters]
    internet = NAMESPACES / tunnels.lab.layout.internet
    with watched(internet, ends) as counted, streaming(near.end, far.end):
        time.sleep(_WATCHED)
    others = {f"{kind.what} from {kind.source}" for kind in counted if kind.what != "WireGuard"}
    if others:
        raise BrokenError(f"there is also {', '.join(sorted(others))}")
    if not counted:
        raise BrokenError("nothing passed at all")
    return f"{counted.total()} packets of WireGuard, and no other"


# --- Rotation -------------------------------------------------------------------------------------


def rotation(tunnels: Tunnels) -> Iterator[Check]:
    """Keys rotate three times under pings and one connection of TCP."""
    near, far = tunnels.pair()
    for number in range(_ROTATIONS):
        turn = (near, far)[number % 2]
        tunnels.say(f"rotating the key of {turn.cluster}, {number + 1} of {_ROTATIONS}")
        judge = partial(_rotated, near, far, turn)
        yield from one("rotation without loss", f"{turn.cluster}, {number + 1}", judge)


def _rotated(near: Gateway, far: Gateway, turn: Gateway) -> str:
    before = turn.tell("status")["publicKey"]
    begun = time.monotonic()
    steps: dict[str, float] = {}
    with pinging(near.end, far.end) as pings, streaming(far.end, near.end) as stream:
        turn.tell("rotate")
        patience = max(near.drain, far.drain) + _ROTATION
        eventually(partial(_is_over, near, far, steps), patience, "the end of the rotation")
    took = time.monotonic() - begun
    if turn.tell("status")["publicKey"] == before:
        raise BrokenError("the key is the same")
    if pings.received != pings.sent or stream.broken:
        lost = pings.sent - pings.received
        near_steps = sum(_is_near(at, steps) for at in pings.lost_at)
        said = f"{lost} of {pings.sent} pings lost, {near_steps} of them within a second of a step"
        raise BrokenError(f"{said}; {stream.broken or 'TCP unharmed'}")
    slowest, megabytes = pings.slowest * 1000, stream.received / 1e6
    return (
        f"{took:.0f} s: 0 of {pings.sent} pings lost, the slowest took {slowest:.0f} ms;"
        f" {megabytes:.0f} MB in one connection, 0 resets"
    )


def _is_over(near: Gateway, far: Gateway, steps: dict[str, float]) -> bool:
    """Whether both are done; notes when each was first seen at each step."""
    found = [gateway.tell("status")["step"] for gateway in (near, far)]
    for gateway, step in zip((near, far), found, strict=True):
        steps.setdefault(f"{gateway.cluster} {step}", time.time())
    return found == [None, None]


def _is_near(at: float, steps: Mapping[str, float]) -> bool:
    return any(abs(at - step) < _NEAR for step in steps.values())


# --- Recovery -------------------------------------------------------------------------------------


def recovery(tunnels: Tunnels) -> Iterator[Check]:
    """A gateway is killed, its UDP blocked, its address changed: traffic is back in time."""
    for what, judge in (("killed", _killed), ("blocked", _blocked), ("moved", _moved)):
        tunnels.say(f"a gateway is {what}")
        yield from one("recovery", f"a gateway that is {what}", partial(judge, tunnels))


def _killed(tunnels: Tunnels) -> str:
    near, far = tunnels.pair()
    pod = f"/api/v1/namespaces/{far.place.pod.namespace}/pods/{far.place.pod.name}"
    tunnels.lab.api(far.cluster).delete(f"{pod}?gracePeriodSeconds=0")
    _seen_down(near, far)
    again = eventually(lambda: _is_another(tunnels, far), 3 * _LONG, "another pod that is ready")
    return f"another after {again:.1f} s; {_back(tunnels, near.cluster, far.cluster)}"


def _is_another(tunnels: Tunnels, before: Gateway) -> bool:
    found = tunnels.gateway(before.cluster)
    return found.place.pod.uid != before.place.pod.uid and found.place.pod.ready


def _blocked(tunnels: Tunnels) -> str:
    near, far = tunnels.pair()
    router = tunnels.lab.layout.namespace(far.cluster)
    rules = dropping(*(f"meta l4proto udp udp {end} {_PORTS}" for end in ("dport", "sport")))
    with ruled(router, rules):
        down = _seen_down(near, far)
        time.sleep(max(0.0, _BLOCKED - down))
        if answers(near.end, far.end):
            raise BrokenError("packets pass although they are blocked")
        _agrees(near, far, down=True)
    return f"seen after {down:.1f} s; {_back(tunnels, near.cluster, far.cluster)}"


def _moved(tunnels: Tunnels) -> str:
    """What the far gateway sends comes from another address, and answers find it there."""
    near, far = tunnels.pair()
    router = tunnels.lab.layout.namespace(far.cluster)
    source = f"meta l4proto udp udp dport {_PORTS} oifname eth0 snat ip to {_MOVED}"
    rules = f"chain p {{\ntype nat hook postrouting priority srcnat - 5\n{source}\n}}"
    run(entered(router, ("ip", "address", "add", f"{_MOVED}/32", "dev", "eth0")))
    try:
        with ruled(router, rules):
            _forget(router)
            moved = _back(tunnels, near.cluster, far.cluster)
            _forget(router)
    finally:
        run(entered(router, ("ip", "address", "delete", f"{_MOVED}/32", "dev", "eth0")))
    _forget(router)
    return f"{moved}; and where it was: {_back(tunnels, near.cluster, far.cluster)}"


def _forget(router: str) -> None:
    """Connections of UDP that are known go on as they were translated."""
    command = entered(router, ("conntrack", "-D", "-p", "udp"))
    # It fails where there is none.
    subprocess.run(command, capture_output=True, check=False)  # noqa: S603


def _seen_down(near: Gateway, far: Gateway) -> float:
    """How long it takes until the metric says that the other is down; the alert says it as well."""
    took = eventually(lambda: not near.is_up(far.cluster), _LONG, "that its peer is down")
    _agrees(near, far, down=True)
    return took


def _agrees(gateway: Gateway, other: Gateway, *, down: bool) -> None:
    """Metric and alert, of one look at it, are as they should be."""
    metrics = gateway.metrics()
    said = metrics[f'zt_wireguard_peer_up{{cluster="{other.cluster}"}}'], DOWN in raised(metrics)
    if said != (float(not down), down):
        raise BrokenError(
            f"{gateway.cluster} says of {other.cluster}: peer_up {said[0]:.0f},"
            f" {DOWN} {'pending' if said[1] else 'inactive'}"
        )


def _back(tunnels: Tunnels, here: str, there: str) -> str:
    """How long it takes until packets pass, and until both say so."""
    near, far = tunnels.gateway(here), tunnels.gateway(there)
    passed = eventually(lambda: answers(near.end, far.end), _LONG, "that packets pass again")
    said = eventually(lambda: are_up(near, far), _LONG, "that both say that it is up")
    if passed > BACK or passed + said > BACK:
        raise BrokenError(f"back after {passed:.1f} s, and said so {said:.1f} s later")
    _agrees(near, far, down=False)
    _agrees(far, near, down=False)
    return f"back after {passed:.1f} s, metric and alert {said:.1f} s later"
