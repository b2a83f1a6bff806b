"""Throughput of the tunnel, beside the bare bridge and a tunnel that was set up by hand."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping
from functools import partial

from lab.check.model import BrokenError, Check, all_of
from lab.cluster.network import NAMESPACES
from lab.tunnel.byhand import Side, by_hand
from lab.tunnel.site import Tunnels
from lab.tunnel.traffic import End, throughput

BARE, HAND, OURS = "the bare bridge", "wireguard-go by hand", "the gateways' tunnel"
_ROUNDS, _SECONDS = 5, 2.0
_LEAST = 0.95


def speed(tunnels: Tunnels) -> Iterator[Check]:
    """At least 95 % of what is set up by hand between the clusters' routers."""
    tunnels.say("throughput of the tunnel, and of others beside it")
    yield from all_of("throughput", [("the tunnel", partial(_compared, tunnels))])


def _compared(tunnels: Tunnels) -> str:
    near, far = tunnels.pair()
    sides = [
        Side(tunnels.lab.layout.namespace(name), tunnels.outside(name))
        for name in (near.cluster, far.cluster)
    ]
    with by_hand(*sides) as hand:
        bare = [End(NAMESPACES / side.namespace, side.host) for side in sides]
        found = medians({BARE: (bare[0], bare[1]), HAND: hand, OURS: (near.end, far.end)})
    said = ", ".join(f"{name} {rate:.0f} Mbit/s" for name, rate in found.items())
    if found[OURS] < _LEAST * found[HAND]:
        raise BrokenError(said)
    return f"{said}: {found[OURS] / found[HAND]:.0%} of that by hand"


def medians(
    ways: Mapping[str, tuple[End, End]],
    rounds: int = _ROUNDS,
    seconds: float = _SECONDS,
    measure: Callable[[End, End, float], float] = throughput,
) -> Mapping[str, float]:
    """Megabits a second by each way.

    They take turns, in one order and then in the other: what else there is falls on all alike.
    """
    found: dict[str, list[float]] = {name: [] for name in ways}
    order = [*ways]
    for _ in range(rounds):
        for name in order:
            found[name].append(measure(*ways[name], seconds))
        order.reverse()
    return {name: statistics.median(rates) for name, rates in found.items()}
