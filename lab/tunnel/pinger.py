"""Pings an address every 10 ms until its input ends, and prints what became of them as JSON.

``python -m lab.tunnel.pinger ADDRESS``, as root. Unlike ping(8) it waits for the last answers
before it counts; it goes ahead of other processes, and when an answer came is what the kernel says:
a machine that is busy is not taken for a tunnel that loses packets.
"""

from __future__ import annotations

import json
import os
import select
import socket
import struct
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise

_PERIOD = 0.01
# What has not come after so long is lost.
_LAST = 3.0
_ECHO, _ECHO_REPLY = 8, 0
_HEADER = struct.Struct("!BBHHH")
_NUMBER = struct.Struct("!Q")
_SIZE = 56
# Options of sockets that Python has no names for (asm-generic/socket.h).
_SO_RCVBUFFORCE, _SO_TIMESTAMPNS = 33, 35
_TIME = struct.Struct("@qq")
_BUFFER = 1 << 22


def request(identity: int, number: int) -> bytes:
    """An echo request (RFC 792)."""
    content = _NUMBER.pack(number).ljust(_SIZE, b"\0")
    header = _HEADER.pack(_ECHO, 0, 0, identity, number & 0xFFFF)
    return _HEADER.pack(_ECHO, 0, _sum(header + content), identity, number & 0xFFFF) + content


def _sum(packet: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(packet) // 2}H", packet))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def answered(packet: bytes, identity: int) -> int | None:
    """The number of the request that a packet of IPv4 answers; ``None`` if it answers none."""
    content = packet[4 * (packet[0] & 0xF) :]
    if len(content) < _HEADER.size + _NUMBER.size:
        return None
    kind, _, _, whose, _ = _HEADER.unpack_from(content)
    is_ours = (kind, whose) == (_ECHO_REPLY, identity)
    (number,) = _NUMBER.unpack_from(content, _HEADER.size)
    return int(number) if is_ours else None


@dataclass
class Pinger:
    """When each ping went, and when its answer came, in seconds since the epoch."""

    socket: socket.socket
    identity: int = field(default_factory=lambda: os.getpid() & 0xFFFF)
    sent: dict[int, float] = field(default_factory=dict)
    came: dict[int, float] = field(default_factory=dict)

    def hear(self) -> None:
        """Take answers for ever."""
        while True:
            packet, extra, *_ = self.socket.recvmsg(2048, socket.CMSG_SPACE(_TIME.size))
            number = answered(packet, self.identity)
            if number is not None:
                seconds, nanoseconds = _TIME.unpack(extra[0][2])
                self.came.setdefault(number, seconds + nanoseconds / 1e9)

    def send(self) -> None:
        """Send the next."""
        number = len(self.sent)
        self.sent[number] = time.time()
        # One that can't be sent is lost.
        with suppress(OSError):
            self.socket.send(request(self.identity, number))

    def report(self) -> Mapping[str, object]:
        """What became of them."""
        times = [*self.sent.values()]
        waits = [self.came[number] - at for number, at in self.sent.items() if number in self.came]
        pauses = [after - before for before, after in pairwise(times)]
        return {
            "sent": len(times),
            "received": len(waits),
            "lost_at": [at for number, at in self.sent.items() if number not in self.came],
            "slowest": max(waits, default=0.0),
            "longest_pause": max(pauses, default=0.0),
        }


def main(address: str) -> None:
    """Ping until standard input ends."""
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    pinger = Pinger(_opened(address))
    threading.Thread(target=pinger.hear, daemon=True).start()
    due = time.monotonic()
    while not select.select([sys.stdin], [], [], max(0.0, due - time.monotonic()))[0]:
        pinger.send()
        # Those that could not go in time are left out, not sent in one go.
        due = max(due + _PERIOD, time.monotonic())
    deadline = time.monotonic() + _LAST
    while len(pinger.came) < len(pinger.sent) and time.monotonic() < deadline:
        time.sleep(_PERIOD)
    print(json.dumps(pinger.report()))  # noqa: T201


def _opened(address: str) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    made.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
    made.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    made.connect((address, 0))
    return made


if __name__ == "__main__":
    main(sys.argv[1])
