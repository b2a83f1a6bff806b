"""Throughput between two gateways: the bare bridge, wireguard-go set up by hand, and our tunnel.

``python -m benchmarks.tunnel [ROUNDS] [SECONDS]``, as root; needs ip, wg and Go. Ways take turns
in every order, so that what else the machine does falls on all three alike; compared is the median
of what each was of the one by hand in its round.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from statistics import median

from lab.tunnel.byhand import Side, by_hand
from lab.tunnel.speed import BARE, HAND, OURS, measured, ratio
from lab.tunnel.traffic import End
from tests.lab.tunnel.site import site


def main(rounds: int, seconds: float) -> None:
    """Measure, and print a table."""
    with tempfile.TemporaryDirectory() as folder, site(Path(folder)) as built:
        built.join()
        a, b = built
        bare = End(a.net, a.host), End(b.net, b.host)
        with by_hand(Side(a.net, a.host), Side(b.net, b.host)) as hand:
            ways = {BARE: bare, HAND: hand, OURS: (a.end, b.end)}
            found = measured(ways, rounds, seconds)
    print("| way | median, Mbit/s | of the one by hand |")
    print("|---|---|---|")
    for name, rates in found.items():
        print(f"| {name} | {median(rates):.0f} | {ratio(rates, found[HAND]):.0%} |")


if __name__ == "__main__":
    given = [float(word) for word in sys.argv[1:]]
    main(int(given[0]) if given else 12, given[1] if len(given) > 1 else 3.0)
