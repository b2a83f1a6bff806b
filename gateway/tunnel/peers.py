"""The peers of a gateway: what the stack mounts, which may change while the tunnel is up."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Interface, ip_network
from pathlib import Path
from typing import Any

from gateway.tunnel.errors import TunnelError


@dataclass(frozen=True)
class Peer:
    """A gateway of another cluster. ``address`` is its own in the tunnel, ``port`` its first.

    ``public`` is the key that the stack knows, ``spiffe`` who the policy says the gateway is.
    """

    cluster: str
    host: str
    port: int
    address: str
    allowed: tuple[str, ...]
    keepalive: int
    public: str
    spiffe: str | None


@dataclass(frozen=True)
class Tunnel:
    """The tunnel as the policy has it; each lane listens on ``port`` and the lane's number."""

    cluster: str
    address: IPv4Interface
    port: int
    peers: tuple[Peer, ...]

    @property
    def own(self) -> str:
        """The gateway's own address in it."""
        return str(self.address.ip)


def read_tunnel(path: Path) -> Tunnel:
    """Read the file that the stack mounts.

    Raises:
        TunnelError: if it can't be read, or is none.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return Tunnel(
            cluster=str(found["cluster"]),
            address=IPv4Interface(found["interface"]["address"]),
            port=int(found["interface"]["listenPort"]),
            peers=tuple(_peers(found["peers"])),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise TunnelError(f"{path} has no tunnel ({error!r})") from None


def _peers(listed: list[dict[str, Any]]) -> Iterator[Peer]:
    for item in listed:
        host, _, port = item["endpoint"].rpartition(":")
        allowed = tuple(map(str, item["allowedIPs"]))
        # Its own address comes first, by itself.
        (address,) = ip_network(allowed[0])
        yield Peer(
            cluster=str(item["cluster"]),
            host=host.strip("[]"),
            port=int(port),
            address=str(address),
            allowed=allowed,
            keepalive=int(item["persistentKeepalive"]),
            public=str(item["publicKey"]),
            spiffe=str(item["spiffe"]) if "spiffe" in item else None,
        )


def resolved(host: str, port: int) -> str | None:
    """An endpoint as ``wg`` takes it; ``None`` if nobody knows the host now."""
    try:
        *_, (found, *_) = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    except OSError:
        return None
    return f"[{found}]:{port}" if ":" in str(found) else f"{found}:{port}"
