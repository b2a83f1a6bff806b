"""Throughput between two gateways: the bare bridge, wireguard-go set up by hand, and our tunnel.

``python -m benchmarks.tunnel [ROUNDS] [SECONDS]``, as root; needs ip, wg and wireguard-go. Rounds
take turns, so that what else the machine does falls on all three alike; the medians are compared.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from lab.tunnel.byhand import Side, by_hand
from lab.tunnel.speed import BARE, HAND, OURS, medians
from lab.tunnel.traffic import End
from tests.lab.tunnel.site import site


def main(rounds: int, seconds: float) -> None:
    """Measure, and print a table."""
    with tempfile.TemporaryDirectory() as folder, site(Path(folder)) as built:
        built.join()
        a, b = built
        bare = End(a.net, a.host), End(b.net, b.host)
        with by_hand(Side(a.namespace, a.host), Side(b.namespace, b.host)) as hand:
            ways = {BARE: bare, HAND: hand, OURS: (a.end, b.end)}
            found = medians(ways, rounds, seconds)
    print("| way | median, Mbit/s | of the one by hand |")
    print("|---|---|---|")
    for name, rate in found.items():
        print(f"| {name} | {rate:.0f} | {rate / found[HAND]:.0%} |")


if __name__ == "__main__":
    given = [float(word) for word in sys.argv[1:]]
    main(int(given[0]) if given else 9, given[1] if len(given) > 1 else 3.0)
