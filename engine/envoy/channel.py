"""Whom a gRPC call of a sidecar speaks for.

The compiled configuration puts the destination and its declared port into the call's metadata,
because neither is known from the connection itself: listeners have ports of their own, and a
plaintext connection has no certificate. The sidecar's own SVID says who is calling, and a sidecar
may speak only of connections to itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from zt.values import parse_port
from zt.wellknown import METADATA_DESTINATION, METADATA_PORT

NO_PORT = 0
_DESTINATION, _PORT = METADATA_DESTINATION.encode(), METADATA_PORT.encode()


@dataclass(frozen=True, slots=True)
class Channel:
    """``peer`` is the SPIFFE ID that the caller proved (empty: none), ``None`` without TLS."""

    peer: str | None
    destination: str | None
    port: int
    # Equal channels have equal keys; a string knows its hash.
    key: str = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", repr((self.peer, self.destination, self.port)))

    def proves(self, principal: str) -> bool:
        """Whether the calls are about their own sender.

        ``principal`` is the destination by its own certificate, empty where there was none.
        """
        claims = {self.destination, principal or self.destination}
        if self.peer is not None:
            claims.add(self.peer)
        return claims == {self.destination} and bool(self.destination)


def channel_of(metadata: Mapping[bytes, bytes], peer: str | None) -> Channel:
    """The channel of a call. Only a plaintext port on loopback has calls without a peer."""
    destination = metadata.get(_DESTINATION)
    port = metadata.get(_PORT, b"")
    return Channel(
        peer=peer,
        destination=None if destination is None else destination.decode(errors="replace"),
        port=_port(port.decode(errors="replace")),
    )


def _port(text: str) -> int:
    try:
        return parse_port(text)
    except ValueError:
        return NO_PORT
