"""What a gateway knows of its peers when it decides what to do next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.tunnel.book import Offer


@dataclass(frozen=True)
class Seen:
    """What is known of a peer.

    Attributes:
        offer: What it last told; ``None`` if nothing yet.
        fresh: Whether it has shaken hands lately, by lane.
        up: Whether it has answered lately.
        live: The lanes that something has come from it on, just now.
        quiet: Whether nothing comes from it on the lane that is left.
    """

    offer: Offer | None = None
    fresh: Mapping[int, bool] = field(default_factory=dict)
    up: bool = True
    live: frozenset[int] = frozenset()
    quiet: bool = True


Peers = Mapping[str, Seen]


def offers_of(peers: Peers) -> list[Offer]:
    """What those told that have told anything."""
    return [seen.offer for seen in peers.values() if seen.offer is not None]
