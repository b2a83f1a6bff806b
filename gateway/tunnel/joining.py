"""How a gateway that begins anew comes to the lane of its peers.

The first time, or when its book is lost, it can't know which lane that is. Until it does, it has
both, with one key, and accepts packets on both: nobody has to wait for it, or to turn back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gateway.tunnel.book import LANES, Book, Offer, Step
from gateway.tunnel.seen import Peers, offers_of

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


def joined(book: Book, peers: Peers, now: float) -> Book:
    """Go where the peers send; stay there once no rotation is under way and all are there."""
    offers = offers_of(peers)
    found = replace(book, lane=_lane(book, peers, offers))
    if not offers or len(offers) < len(peers):
        return found
    if any(o.step not in (None, Step.JOINING) or o.lane != found.lane for o in offers):
        return found
    keys = {found.lane: found.keys[found.lane]}
    turn = max(offer.turn for offer in offers)
    return replace(found, keys=keys, turn=turn, step=None, since=now)


def _lane(book: Book, peers: Peers, offers: Sequence[Offer]) -> int:
    """Where those send who have a lane; before any of them is heard, where one has answered."""
    settled = [offer for offer in offers if offer.step is not Step.JOINING]
    if settled:
        return min(settled, key=lambda offer: _RANKS.index(offer.step)).sending
    for seen in peers.values():
        lanes = [lane for lane in LANES if seen.fresh.get(lane, False)]
        if len(lanes) == 1:
            return lanes[0]
    return book.lane
