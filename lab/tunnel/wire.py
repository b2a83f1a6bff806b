"""What passes on the "Internet" between clusters: the kind of every packet, seen on its bridge."""

from __future__ import annotations

import socket
import struct
import threading
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from lab.cluster.network import BRIDGE
from lab.verify.network import within

_SOL_PACKET, _ADD_MEMBERSHIP, _PROMISCUOUS = 263, 1, 1
_ETH_P_ALL, _IPV4 = 3, 0x0800
_TCP, _UDP = 6, 17
_ETHERNET = 14
_PATIENCE = 0.2
# Types of WireGuard's messages, each followed by three bytes of zero (its paper, section 5.4).
_MESSAGES = range(1, 5)


@dataclass(frozen=True, slots=True, order=True)
class Kind:
    """A kind of packet: ``what`` is ``WireGuard``, or the protocol and the port it goes to."""

    source: str
    destination: str
    what: str


@contextmanager
def watched(namespace: Path, ends: Collection[str]) -> Iterator[Counter[Kind]]:
    """Count packets between addresses of ``ends``, while the block lasts."""
    counted: Counter[Kind] = Counter()
    over = threading.Event()
    with within(namespace, _listening) as listening:
        thread = threading.Thread(target=_count, args=(listening, ends, counted, over))
        thread.start()
        try:
            yield counted
        finally:
            over.set()
            thread.join()


def _listening() -> socket.socket:
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
    made.bind((BRIDGE, 0))
    # A bridge shows itself what it forwards only if it is told to (packet(7)).
    wanted = struct.pack("iHH8s", socket.if_nametoindex(BRIDGE), _PROMISCUOUS, 0, b"")
    made.setsockopt(_SOL_PACKET, _ADD_MEMBERSHIP, wanted)
    made.settimeout(_PATIENCE)
    return made


def _count(
    listening: socket.socket, ends: Collection[str], counted: Counter[Kind], over: threading.Event
) -> None:
    while not over.is_set():
        try:
            frame = listening.recv(1 << 16)
        except TimeoutError:
            continue
        found = kind_of(frame)
        if found is not None and found.source in ends and found.destination in ends:
            counted[found] += 1


def kind_of(frame: bytes) -> Kind | None:
    """The kind of a frame of Ethernet; ``None`` if it is not of IPv4."""
    if int.from_bytes(frame[12:_ETHERNET]) != _IPV4:
        return None
    packet = frame[_ETHERNET:]
    source, destination = (str(IPv4Address(packet[at : at + 4])) for at in (12, 16))
    return Kind(source, destination, _what(packet[9], packet[4 * (packet[0] & 0xF) :]))


def _what(protocol: int, content: bytes) -> str:
    port = int.from_bytes(content[2:4])
    if protocol == _UDP:
        said = content[8:12]
        if said[:1] and said[0] in _MESSAGES and said[1:] == bytes(3):
            return "WireGuard"
        return f"UDP to {port}"
    return f"TCP to {port}" if protocol == _TCP else f"protocol {protocol}"
