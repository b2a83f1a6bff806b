"""How a gateway that begins anew comes to the lane of its peers.

The first time, or when its book is lost, it can't know which lane that is. Until it does, it has
both, with one key, and accepts packets on both: nobody has to wait for it, or to turn back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gateway.tunnel.book import LANES, Book, Offer, Step
from gateway.tunnel.seen import Peers, offers_of

# Where all go of whom none has a lane: what each told before may be true no more, this is always.
_FIRST = LANES[0]
# Whose lane counts most, where a rotation is under way: first those who can't go back.
_RANKS = (
    Step.DRAINING,
    Step.SETTLING,
    None,
    Step.RETURNING,
    Step.SWITCHED,
    Step.VERIFIED,
    Step.STAGED,
)


def joined(book: Book, name: str, peers: Peers, now: float) -> Book:
    """Go where the peers send; stay there once no rotation is under way and all are there.

    Who is joining as well has to have heard of ``name`` by then: from that on it looks no further.
    """
    offers = offers_of(peers)
    settled = [offer for offer in offers if offer.step is not Step.JOINING]
    found = replace(book, lane=_lane(peers, settled))
    if not offers or len(offers) < len(peers):
        return found
    if not settled and found.lane != _FIRST:
        return found
    if not all(_stays(offer, name) and offer.lane == found.lane for offer in offers):
        return found
    keys = {found.lane: found.keys[found.lane]}
    turn = max(offer.turn for offer in offers)
    return replace(found, keys=keys, turn=turn, step=None, since=now)


def _stays(offer: Offer, name: str) -> bool:
    """Whether a peer is where it will be until a rotation begins."""
    return offer.step is None or (offer.step is Step.JOINING and name in offer.heard)


def _lane(peers: Peers, settled: Sequence[Offer]) -> int:
    """Where those send who have a lane; else where one sends that does not answer."""
    if settled:
        return min(settled, key=lambda offer: _RANKS.index(offer.step)).sending
    for seen in peers.values():
        if not seen.up and len(seen.live) == 1:
            return min(seen.live)
    return _FIRST
