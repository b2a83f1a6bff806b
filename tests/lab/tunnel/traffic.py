"""Traffic through a tunnel that must not be lost: pings, and one long connection of TCP."""

from __future__ import annotations

import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from lab.cluster.network import entered
from lab.verify.network import within
from tests.lab.tunnel.site import Gateway

_PORT = 5201
_BLOCK = bytes(range(256)) * 64
_COUNTS = re.compile(r"(\d+) packets transmitted, (\d+) received")


@dataclass
class Pings:
    """How many went out, and came back, once it is over."""

    sent: int = 0
    received: int = 0


@contextmanager
def pinging(source: Gateway, target: Gateway) -> Iterator[Pings]:
    """A ping every 10 ms while the block lasts."""
    counted = Pings()
    command = ("ping", "-q", "-i", "0.01", "-W", "2", target.own)
    with subprocess.Popen(
        entered(source.namespace, command), stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield counted
        finally:
            # What is on its way may still come.
            time.sleep(0.2)
            process.send_signal(2)
            text, _ = process.communicate(timeout=10)
            found = _COUNTS.search(text)
            assert found, text
            counted.sent, counted.received = int(found[1]), int(found[2])


@dataclass
class Stream:
    """A connection that never stops; ``received`` bytes came, all of them in order."""

    received: int = 0
    broken: list[str] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)

    def write(self, near: socket.socket) -> None:
        try:
            while not self._over.is_set():
                near.sendall(_BLOCK)
                # A few megabytes a second leave the machine to others.
                self._over.wait(0.005)
            near.shutdown(socket.SHUT_WR)
        except OSError as error:
            self.broken.append(f"writing: {error!r}")

    def read(self, far: socket.socket) -> None:
        try:
            while content := far.recv(1 << 16):
                start = self.received % len(_BLOCK)
                wanted = (_BLOCK * (2 + len(content) // len(_BLOCK)))[start:][: len(content)]
                if content != wanted:
                    self.broken.append("other bytes than were written")
                self.received += len(content)
        except OSError as error:
            self.broken.append(f"reading: {error!r}")

    def end(self) -> None:
        self._over.set()


@contextmanager
def streaming(source: Gateway, target: Gateway) -> Iterator[Stream]:
    """One connection while the block lasts."""
    listening = within(target.net, lambda: socket.create_server((target.own, _PORT)))
    with listening:
        near = within(source.net, lambda: socket.create_connection((target.own, _PORT), 10))
        far, _ = listening.accept()
    stream = Stream()
    with near, far:
        near.settimeout(60)
        far.settimeout(60)
        threads = [
            threading.Thread(target=stream.write, args=(near,)),
            threading.Thread(target=stream.read, args=(far,)),
        ]
        for thread in threads:
            thread.start()
        try:
            yield stream
        finally:
            stream.end()
            for thread in threads:
                thread.join(70)


def answers(source: Gateway, target: Gateway) -> bool:
    """Whether a ping is answered now."""
    command = ("ping", "-q", "-c", "1", "-W", "1", target.own)
    done = subprocess.run(entered(source.namespace, command), capture_output=True, check=False)
    return done.returncode == 0
