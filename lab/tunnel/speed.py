"""Throughput of the tunnel, beside the bare bridge and a tunnel that was set up by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import cycle, islice, permutations
from statistics import median

from lab.check.model import BrokenError, Check, all_of
from lab.cluster.network import NAMESPACES
from lab.tunnel.byhand import Side, by_hand
from lab.tunnel.site import Gateway, Tunnels
from lab.tunnel.traffic import End, throughput

BARE, HAND, OURS = "the bare bridge", "wireguard-go by hand", "the gateways' tunnel"
# Each order of three ways four times: a single turn is off by 8 % as often as not.
_ROUNDS, _SECONDS = 24, 2.0
_LEAST = 0.95


def speed(tunnels: Tunnels) -> Iterator[Check]:
    """At least 95 % of what is set up by hand in the same pods, on the lane that is free."""
    tunnels.say("throughput of the tunnel, and of others beside it")
    yield from all_of("throughput", [("the tunnel", partial(_compared, tunnels))])


def _compared(tunnels: Tunnels) -> str:
    near, far = tunnels.pair()
    first, second = (_beside(tunnels, gateway) for gateway in (near, far))
    with by_hand(first, second) as hand:
        bare = [
            End(NAMESPACES / tunnels.lab.layout.namespace(name), tunnels.outside(name))
            for name in (near.cluster, far.cluster)
        ]
        found = measured({BARE: (bare[0], bare[1]), HAND: hand, OURS: (near.end, far.end)})
    said = ", ".join(f"{name} {median(rates):.0f} Mbit/s" for name, rates in found.items())
    reached = ratio(found[OURS], found[HAND])
    said = f"{said}: {reached:.0%} of that by hand, in {_ROUNDS} turns of {_SECONDS:.0f} s"
    if reached < _LEAST:
        raise BrokenError(said)
    return said


def _beside(tunnels: Tunnels, gateway: Gateway) -> Side:
    """In a gateway's pod, by the port of its other lane, with the pod's share of CPU.

    So all that is on the way is the same: the pod's own link, the node, its load balancer.
    """
    free = 1 - int(gateway.tell("status")["lane"])
    host, port = tunnels.outside(gateway.cluster), tunnels.port(gateway.cluster)
    return Side(gateway.end.namespace, host, port + free, gateway.pid)


def measured(
    ways: Mapping[str, tuple[End, End]],
    rounds: int = _ROUNDS,
    seconds: float = _SECONDS,
    measure: Callable[[End, End, float], float] = throughput,
) -> Mapping[str, Sequence[float]]:
    """Megabits a second by each way, one of each round.

    They take turns, in every order: what else there is falls on all alike, as does coming first.
    """
    found: dict[str, list[float]] = {name: [] for name in ways}
    for order in islice(cycle(permutations(ways)), rounds):
        for name in order:
            found[name].append(measure(*ways[name], seconds))
    return found


def ratio(ours: Sequence[float], others: Sequence[float]) -> float:
    """The median of what one was of the other in each round."""
    return median(our / other for our, other in zip(ours, others, strict=True))
