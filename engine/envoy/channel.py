"""Whom a gRPC call of a sidecar speaks for.

The compiled configuration puts the destination and its declared port into the call's metadata,
because neither is known from the connection itself: listeners have ports of their own, and a
plaintext connection has no certificate. The sidecar's own SVID says who is calling, and a sidecar
may speak only of connections to itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import grpc

from zt.values import parse_port
from zt.wellknown import METADATA_DESTINATION, METADATA_PORT

NO_PORT = 0

Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True)
class Channel:
    """``peer`` is the SPIFFE ID that the caller proved (empty: none), ``None`` without TLS."""

    peer: str | None
    destination: str | None
    port: int

    def proves(self, principal: str) -> bool:
        """Whether the calls are about their own sender.

        ``principal`` is the destination by its own certificate, empty where there was none.
        """
        claims = {self.destination, principal or self.destination}
        if self.peer is not None:
            claims.add(self.peer)
        return claims == {self.destination} and bool(self.destination)


def channel_of(context: Context) -> Channel:
    """Read the channel of a call. Only a plaintext port on loopback has calls without a peer."""
    metadata = {str(key): str(value) for key, value in context.invocation_metadata() or ()}
    return Channel(
        peer=_peer(context.auth_context()),
        destination=metadata.get(METADATA_DESTINATION),
        port=_port(metadata.get(METADATA_PORT, "")),
    )


def _peer(properties: Mapping[str, Any]) -> str | None:
    if b"ssl" not in properties.get("transport_security_type", ()):
        return None
    identities = properties.get("peer_spiffe_id", ())
    return identities[0].decode() if identities else ""


def _port(text: str) -> int:
    try:
        return parse_port(text)
    except ValueError:
        return NO_PORT
