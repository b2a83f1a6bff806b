"""Rotation of a gateway's key without a lost packet: which lane carries what, step by step.

Whoever begins makes a new key for its other lane; its peers bring up their other lanes as well,
with the keys that they have. Both lanes accept packets; each gateway sends on one of them.

- staged: the other lane is up, and peers are told its key.
- verified: every peer is in this rotation as well, and has shaken hands there.
- switched: packets go out there; they come in on both.
- draining: every peer sends there as well. From here on there is no way back for who began.
- returning: it was called off, or took too long: packets go out as before, and the other lane goes
  once every peer has heard of it.
- settling: one lane is left, the new one or the old. It is over once this is so everywhere: what
  begins then finds no lane, and no session, of the rotation before.

Rotations are numbered, so that nobody takes one for another, and nobody enters one twice. Nobody
sends on a lane that its peer does not have, however late each hears of the other, and whoever
restarts at any step. Pure functions: the program acts only on what has been stored.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from gateway.tunnel.book import ON_ONE_LANE, Book, Key, Offer, Place, Step
from gateway.tunnel.errors import TunnelError
from gateway.tunnel.joining import joined
from gateway.tunnel.seen import Peers, Seen, offers_of

_FORWARD = (Step.STAGED, Step.VERIFIED, Step.SWITCHED, Step.DRAINING)


@dataclass(frozen=True)
class Times:
    """Seconds: how long the old lane stays (sessions end after 180 s), and how long one tries."""

    drain: float = 180.0
    patience: float = 120.0


# --- What people want -----------------------------------------------------------------------------


def obstacle(book: Book, peers: Peers) -> str | None:
    """Why no rotation can begin, if none can: all have to be done with the one before."""
    if book.step is Step.JOINING:
        return "it has not found its peers yet"
    if book.step is not None:
        return f"a rotation is under way already: it is {book.step.value}"
    for name, seen in peers.items():
        if seen.offer is None:
            return f"{name} has not answered yet"
        if seen.offer.step is not None and not _has_begun(book, seen.offer):
            return f"{name} is {seen.offer.step.value}"
    return None


def begin(book: Book, key: Key, peers: Peers, now: float) -> Book:
    """Begin a rotation, with a new key.

    Raises:
        TunnelError: if there is an obstacle.
    """
    why = obstacle(book, peers)
    if why:
        raise TunnelError(f"no rotation can begin: {why}")
    begun = [offer.turn for offer in offers_of(peers) if _has_begun(book, offer)]
    turn = max(begun) if begun else 1 + max([book.turn, *(o.turn for o in offers_of(peers))])
    keys = {book.lane: book.keys[book.lane], book.other: key}
    return replace(book, keys=keys, turn=turn, step=Step.STAGED, began=True, since=now)


def call_off(book: Book, now: float) -> Book:
    """Call a rotation off that was begun here.

    Raises:
        TunnelError: if there is none, or it is too late.
    """
    if book.step not in (Step.STAGED, Step.VERIFIED, Step.SWITCHED) or not book.began:
        state = "there is none" if book.step is None else f"it is {book.step.value}"
        whose = "" if book.began or book.step not in _FORWARD else ", and was begun elsewhere"
        raise TunnelError(f"no rotation can be called off: {state}{whose}")
    return _taken(book, Step.RETURNING, now)


# --- What comes next ------------------------------------------------------------------------------


def advance(book: Book, name: str, peers: Peers, now: float, times: Times) -> Book:
    """The next step if it is time for it; the same book else. ``name`` is the own cluster's."""
    found = book
    match book.step:
        case None:
            found = _followed(book, peers, now)
        case Step.JOINING:
            found = joined(book, name, peers, now)
        case Step.STAGED | Step.VERIFIED | Step.SWITCHED:
            is_off = _is_off(book, peers, now, times)
            found = _taken(book, Step.RETURNING, now) if is_off else _onward(book, peers, now)
        case Step.DRAINING:
            found = _drained(book, peers, now, times)
        case Step.RETURNING:
            found = _returned(book, name, peers, now)
        case Step.SETTLING:
            found = _over(book, peers, now)
    return found


def _followed(book: Book, peers: Peers, now: float) -> Book:
    """Bring up the other lane where a peer has begun a rotation, with the same key."""
    begun = [offer.turn for offer in offers_of(peers) if _has_begun(book, offer)]
    if not begun:
        return book
    keys = dict.fromkeys((book.lane, book.other), book.keys[book.lane])
    return replace(book, keys=keys, turn=max(begun), step=Step.STAGED, began=False, since=now)


def _has_begun(book: Book, offer: Offer) -> bool:
    """Whether a peer has begun a rotation that this gateway is not in yet."""
    return offer.began and offer.step in _FORWARD and offer.turn > book.turn


def _onward(book: Book, peers: Peers, now: float) -> Book:
    if book.step is Step.STAGED:
        is_time = all(_is_verified(book, seen) for seen in peers.values())
        return _taken(book, Step.VERIFIED, now) if is_time else book
    if book.step is Step.VERIFIED:
        return _taken(book, Step.SWITCHED, now)
    sends = all(
        seen.offer and _is_with_us(book, seen.offer) and seen.offer.sending == book.other
        for seen in peers.values()
    )
    return _taken(book, Step.DRAINING, now) if sends else book


def _is_verified(book: Book, seen: Seen) -> bool:
    """Whether a peer has the other lane, and will keep it for this rotation."""
    offer = seen.offer
    if offer is None or book.other not in offer.keys or not seen.fresh.get(book.other, False):
        return False
    return _is_with_us(book, offer)


def _is_with_us(book: Book, offer: Offer) -> bool:
    """Whether a peer is not on its way back; who looks for its peers goes with them."""
    return offer.step is Step.JOINING or _is_forward(book, offer) or _is_there(book, offer)


def _is_forward(book: Book, offer: Offer) -> bool:
    """Whether a peer is on its way in this same rotation."""
    return offer.turn == book.turn and offer.step in _FORWARD


def _is_there(book: Book, offer: Offer) -> bool:
    """Whether a peer has settled on the other lane, whatever it does next."""
    is_on_it = offer.lane == book.other and offer.step is not Step.JOINING
    return is_on_it and offer.turn >= book.turn


def _drained(book: Book, peers: Peers, now: float, times: Times) -> Book:
    if not book.began and _is_withdrawn(book, peers):
        return _taken(book, Step.RETURNING, now)
    if now - book.since < times.drain or not all(_has_left(book, s) for s in peers.values()):
        return book
    return _settled(replace(book, lane=book.other), now)


def _has_left(book: Book, seen: Seen) -> bool:
    """Whether a peer will never send on the old lane again, and nothing of it is on its way."""
    offer = seen.offer
    if offer is None or not seen.quiet:
        return False
    return offer.lane == book.other or offer.place == Place(book.turn, Step.DRAINING)


def _returned(book: Book, name: str, peers: Peers, now: float) -> Book:
    if any(_is_irrevocable(book, offer) for offer in offers_of(peers)):
        # Too late: that one goes on, whatever happens.
        return replace(book, step=Step.SWITCHED, began=False, since=now)
    if not all(_has_returned(book, name, seen.offer) for seen in peers.values()):
        return book
    return _settled(book, now)


def _is_irrevocable(book: Book, offer: Offer) -> bool:
    is_draining = offer.place == Place(book.turn, Step.DRAINING)
    return _is_there(book, offer) or (offer.began and is_draining)


def _has_returned(book: Book, name: str, offer: Offer | None) -> bool:
    """Whether a peer knows that we return, and so will not send on the other lane."""
    if offer is None or offer.sending != book.lane:
        return False
    is_back = offer.step in (*ON_ONE_LANE, Step.RETURNING, Step.JOINING)
    return is_back and offer.heard.get(name) == Place(book.turn, Step.RETURNING)


def _over(book: Book, peers: Peers, now: float) -> Book:
    is_over = all(seen.offer and _has_ended(book, seen.offer) for seen in peers.values())
    return replace(book, step=None, began=False, since=now) if is_over else book


def _has_ended(book: Book, offer: Offer) -> bool:
    """Whether a peer has but one lane left of this rotation."""
    return offer.step in (*ON_ONE_LANE, Step.JOINING) or offer.turn > book.turn


def _is_off(book: Book, peers: Peers, now: float, times: Times) -> bool:
    if book.began:
        return now - book.since > times.patience
    return _is_withdrawn(book, peers)


def _is_withdrawn(book: Book, peers: Peers) -> bool:
    """Whether nobody leads to the other lane any longer, as far as all have been heard."""
    offers = offers_of(peers)
    heard = len(offers) == len(peers)
    return heard and not any(_leads(book, offer) for offer in offers)


def _leads(book: Book, offer: Offer) -> bool:
    """Whether a peer leads to the other lane: it began, and goes on; or is there already."""
    return _is_there(book, offer) or (offer.began and _is_forward(book, offer))


def _taken(book: Book, step: Step, now: float) -> Book:
    return replace(book, step=step, since=now)


def _settled(book: Book, now: float) -> Book:
    """But for its lane nothing is left, in particular no other key."""
    keys = {book.lane: book.keys[book.lane]}
    return replace(book, keys=keys, step=Step.SETTLING, since=now)
