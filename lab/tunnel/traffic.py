"""Traffic through a tunnel that must not be lost: pings, and one long connection of TCP."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from lab.cluster.model import LabError
from lab.cluster.network import entered
from lab.verify.network import within

_PORT = 5201
_BLOCK = bytes(range(256)) * 64
_PATIENCE = 60.0
_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class End:
    """Somewhere that packets come from or go to: a network namespace, and an address in it."""

    namespace: Path
    address: str


@dataclass(slots=True)
class Pings:
    """What became of pings, once it is over; times in seconds.

    Attributes:
        sent: How many went out.
        received: How many came back, however late.
        lost_at: When those went that never came back, since the epoch.
        slowest: How long the slowest took to come back.
        longest_pause: How long none went out, at most: the machine was busy.
    """

    sent: int = 0
    received: int = 0
    lost_at: tuple[float, ...] = ()
    slowest: float = 0.0
    longest_pause: float = 0.0

    def read(self, text: str) -> None:
        """Take what the pinger printed.

        Raises:
            LabError: if that is nothing of the kind.
        """
        try:
            found = json.loads(text)
            self.sent, self.received = found["sent"], found["received"]
            self.lost_at = tuple(found["lost_at"])
            self.slowest, self.longest_pause = found["slowest"], found["longest_pause"]
        except (ValueError, KeyError, TypeError):
            raise LabError(f"pings can't be counted: {text[-200:]!r}") from None


@contextmanager
def pinging(source: End, target: End) -> Iterator[Pings]:
    """A ping every 10 ms while the block lasts.

    Raises:
        LabError: if they can't be counted.
    """
    pings = Pings()
    program = (sys.executable, "-m", "lab.tunnel.pinger", target.address)
    command = entered(source.namespace, program)
    with subprocess.Popen(  # noqa: S603
        command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield pings
        finally:
            said, _ = process.communicate(timeout=_PATIENCE)
    pings.read(said)


def answers(source: End, target: End) -> bool:
    """Whether a ping is answered now."""
    options = ("ping", "-q", "-c", "1", "-W", "1")
    command = entered(source.namespace, (*options, target.address))
    return subprocess.run(command, capture_output=True, check=False).returncode == 0  # noqa: S603


@dataclass(slots=True)
class Stream:
    """A connection that never stops; ``received`` bytes came, all of them in order.

    Without a ``pause`` it is as fast as it can be; ``seconds`` is how long it took in the end.
    """

    pause: float
    received: int = 0
    seconds: float = 0.0
    broken: list[str] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)

    def write(self, near: socket.socket) -> None:
        """Write until ``end``."""
        try:
            while not self._over.is_set():
                near.sendall(_BLOCK)
                if self.pause:
                    self._over.wait(self.pause)
            near.shutdown(socket.SHUT_WR)
        except OSError as error:
            self.broken.append(f"writing: {error!r}")

    def read(self, far: socket.socket) -> None:
        """Read to the end."""
        begun = time.monotonic()
        try:
            while content := far.recv(1 << 17):
                start = self.received % len(_BLOCK)
                wanted = (_BLOCK * (2 + len(content) // len(_BLOCK)))[start:][: len(content)]
                if content != wanted:
                    self.broken.append("other bytes than were written")
                self.received += len(content)
        except OSError as error:
            self.broken.append(f"reading: {error!r}")
        self.seconds = time.monotonic() - begun

    def end(self) -> None:
        """Write no more."""
        self._over.set()


@contextmanager
def streaming(source: End, target: End, pause: float = 0.005) -> Iterator[Stream]:
    """One connection while the block lasts.

    Raises:
        OSError: if there is none at all.
    """
    near, far = _connected(source, target)
    stream = Stream(pause)
    with near, far:
        near.settimeout(_PATIENCE)
        far.settimeout(_PATIENCE)
        threads = (
            threading.Thread(target=stream.write, args=(near,)),
            threading.Thread(target=stream.read, args=(far,)),
        )
        for thread in threads:
            thread.start()
        try:
            yield stream
        finally:
            stream.end()
            for thread in threads:
                thread.join()


def _connected(source: End, target: End) -> tuple[socket.socket, socket.socket]:
    place = (target.address, _PORT)
    with within(target.namespace, lambda: socket.create_server(place)) as listening:
        listening.settimeout(_PATIENCE)
        near = within(source.namespace, lambda: socket.create_connection(place, _PATIENCE))
        far, _ = listening.accept()
    return near, far


def throughput(source: End, target: End, seconds: float) -> float:
    """Megabits a second over one connection of TCP.

    Raises:
        OSError: if there is none.
    """
    with streaming(source, target, 0.0) as stream:
        time.sleep(seconds)
    return stream.received * 8 / 1e6 / stream.seconds
