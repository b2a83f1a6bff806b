"""Throughput between two gateways: the bare bridge, wireguard-go set up by hand, and our tunnel.

``python -m benchmarks.tunnel [ROUNDS] [SECONDS]``, as root; needs ip, wg and wireguard-go. Rounds
take turns, so that what else the machine does falls on all three alike; the medians are compared.
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.tunnel import wg
from gateway.tunnel.book import Key
from lab.cluster.network import entered
from lab.verify.network import within
from tests.lab.tunnel.site import Gateway, Site, run, site

_PORT = 5301
_BLOCK = bytes(1 << 17)
_HAND = {1: "10.99.0.1", 2: "10.99.0.2"}
_MTU = "1420"


def main(rounds: int, seconds: float) -> None:
    """Measure, and print a table."""
    with tempfile.TemporaryDirectory() as folder, site(Path(folder)) as built:
        built.join()
        with _by_hand(built):
            a, b = built
            ways: dict[str, Callable[[], float]] = {
                "bare bridge": lambda: _measured(a, b, b.host, seconds),
                "wireguard-go by hand": lambda: _measured(a, b, _HAND[2], seconds),
                "the gateways' tunnel": lambda: _measured(a, b, b.own, seconds),
            }
            found: dict[str, list[float]] = {name: [] for name in ways}
            for _ in range(rounds):
                for name, measure in ways.items():
                    found[name].append(measure())
    _print(found)


def _measured(a: Gateway, b: Gateway, address: str, seconds: float) -> float:
    """Megabits a second over one connection of TCP."""
    with within(b.net, lambda: socket.create_server((address, _PORT))) as listening:
        near = within(a.net, lambda: socket.create_connection((address, _PORT), 10))
        far, _ = listening.accept()
    received = 0
    end = time.monotonic() + seconds

    def write() -> None:
        with near:
            while time.monotonic() < end:
                near.sendall(_BLOCK)

    writing = threading.Thread(target=write)
    begun = time.monotonic()
    writing.start()
    with far:
        while content := far.recv(len(_BLOCK)):
            received += len(content)
    writing.join()
    return received * 8 / 1e6 / (time.monotonic() - begun)


@contextmanager
def _by_hand(built: Site) -> Iterator[None]:
    """A second tunnel between the same two, as one would set it up with ``wg``."""
    keys = {one.number: wg.new_key(time.time()) for one in built}
    processes = []
    try:
        processes += [_interface(one, keys, built) for one in built]
        yield
    finally:
        for process in processes:
            process.terminate()
            process.wait()


def _interface(one: Gateway, keys: dict[int, Key], built: Site) -> subprocess.Popen[bytes]:
    name = f"hand{one.number}"
    environment = {**os.environ, "LOG_LEVEL": "error", "WG_PROCESS_FOREGROUND": "1"}
    process = subprocess.Popen(  # noqa: S603
        entered(one.namespace, ("wireguard-go", name)), env=environment
    )
    path = one.folder / "hand"
    path.write_text(keys[one.number].private)
    for _ in range(200):
        if Path(f"/var/run/wireguard/{name}.sock").exists():
            break
        time.sleep(0.05)
    other = next(item for item in built if item is not one)

    def ip(*words: str) -> None:
        run("ip", "-n", one.namespace, *words)

    peer = ("peer", keys[other.number].public, "allowed-ips", f"{_HAND[other.number]}/32")
    where = ("endpoint", f"{other.host}:51999", "persistent-keepalive", "25")
    own = ("listen-port", "51999", "private-key", str(path))
    run(*entered(one.namespace, ("wg", "set", name, *own, *peer, *where)))
    ip("address", "add", f"{_HAND[one.number]}/24", "dev", name)
    ip("link", "set", name, "mtu", _MTU, "up")
    return process


def _print(found: dict[str, list[float]]) -> None:
    hand = statistics.median(found["wireguard-go by hand"])
    print("| way | median, Mbit/s | least to most | of the one by hand |")
    print("|---|---|---|---|")
    for name, values in found.items():
        middle = statistics.median(values)
        spread = f"{min(values):.0f} to {max(values):.0f}"
        print(f"| {name} | {middle:.0f} | {spread} | {middle / hand:.0%} |")


if __name__ == "__main__":
    given = [float(word) for word in sys.argv[1:]]
    main(int(given[0]) if given else 9, given[1] if len(given) > 1 else 3.0)
