"""Rotation of a gateway's key without a lost packet: which lane carries what, step by step.

Whoever begins makes a new key for its other lane; its peers bring up their other lanes as well,
with the keys that they have. Both lanes accept packets; each gateway sends on one of them.

- staged: the other lane is up, and peers are told its key.
- verified: every peer has shaken hands there.
- switched: packets go out there; they come in on both.
- draining: every peer sends there as well. From here on there is no way back for who began.
- done: what was still on its way has come; the old lane and its key are gone.
- returning: it was called off, or took too long: packets go out as before, and the other lane goes
  once every peer has heard of it.

Nobody sends on a lane that its peer does not have, however late each hears of the other, and
whoever restarts at any step. A pure function: the program acts only on what has been stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from gateway.tunnel.book import Book, Key, Offer, Step
from gateway.tunnel.errors import TunnelError

_FORWARD = (Step.STAGED, Step.VERIFIED, Step.SWITCHED, Step.DRAINING)


@dataclass(frozen=True)
class Times:
    """Seconds: how long the old lane stays (sessions end after 180 s), and how long one tries."""

    drain: float = 180.0
    patience: float = 120.0


@dataclass(frozen=True)
class Seen:
    """What is known of a peer.

    Attributes:
        offer: What it last told; ``None`` if nothing yet.
        fresh: Whether it has shaken hands lately, by lane.
        quiet: Whether nothing comes from it on the lane that is left.
    """

    offer: Offer | None = None
    fresh: Mapping[int, bool] = field(default_factory=dict)
    quiet: bool = True


Peers = Mapping[str, Seen]


def begin(book: Book, key: Key, now: float) -> Book:
    """Begin a rotation, with a new key.

    Raises:
        TunnelError: if one is under way.
    """
    if book.step is not None:
        raise TunnelError(f"a rotation is under way already: it is {book.step.value}")
    keys = {book.lane: book.keys[book.lane], book.other: key}
    return replace(book, keys=keys, step=Step.STAGED, began=True, since=now)


def call_off(book: Book, now: float) -> Book:
    """Call a rotation off that was begun here.

    Raises:
        TunnelError: if there is none, or it is too late.
    """
    if book.step not in (Step.STAGED, Step.VERIFIED, Step.SWITCHED) or not book.began:
        state = "there is none" if book.step is None else f"it is {book.step.value}"
        whose = "" if book.began or book.step is None else ", and was begun elsewhere"
        raise TunnelError(f"no rotation can be called off: {state}{whose}")
    return _taken(book, Step.RETURNING, now)


def advance(book: Book, name: str, peers: Peers, now: float, times: Times) -> Book:
    """The next step if it is time for it; the same book else. ``name`` is the own cluster's."""
    match book.step:
        case None:
            return _followed(book, peers, now)
        case Step.STAGED | Step.VERIFIED | Step.SWITCHED:
            if _is_off(book, peers, now, times):
                return _taken(book, Step.RETURNING, now)
            return _onward(book, peers, now)
        case Step.DRAINING:
            return _drained(book, peers, now, times)
        case Step.RETURNING:
            return _returned(book, name, peers, now)
    return book


def _followed(book: Book, peers: Peers, now: float) -> Book:
    """Bring up the other lane where a peer leads there, with the same key."""
    if not any(_leads(offer, book.other) for offer in _offers(peers)):
        return book
    keys = dict.fromkeys((book.lane, book.other), book.keys[book.lane])
    return replace(book, keys=keys, step=Step.STAGED, began=False, since=now)


def _onward(book: Book, peers: Peers, now: float) -> Book:
    if book.step is Step.STAGED:
        is_time = all(
            seen.offer is not None
            and book.other in seen.offer.keys
            and seen.fresh.get(book.other, False)
            for seen in peers.values()
        )
        return _taken(book, Step.VERIFIED, now) if is_time else book
    if book.step is Step.VERIFIED:
        return _taken(book, Step.SWITCHED, now)
    sends = all(seen.offer and seen.offer.sending == book.other for seen in peers.values())
    return _taken(book, Step.DRAINING, now) if sends else book


def _drained(book: Book, peers: Peers, now: float, times: Times) -> Book:
    if not book.began and _is_withdrawn(book, peers):
        return _taken(book, Step.RETURNING, now)
    if now - book.since < times.drain or not all(_has_left(book, s) for s in peers.values()):
        return book
    return replace(
        book,
        keys={book.other: book.keys[book.other]},
        lane=book.other,
        step=None,
        began=False,
        since=now,
    )


def _has_left(book: Book, seen: Seen) -> bool:
    """Whether a peer will never send on the old lane again, and nothing of it is on its way."""
    offer = seen.offer
    if offer is None or not seen.quiet:
        return False
    if offer.lane == book.other:
        return offer.step is None
    return offer.step is Step.DRAINING


def _returned(book: Book, name: str, peers: Peers, now: float) -> Book:
    if any(_leads(o, book.other) and o.step is Step.DRAINING for o in _offers(peers)):
        # Too late: that one goes on, whatever happens.
        return replace(book, step=Step.SWITCHED, began=False, since=now)
    if not all(_has_returned(book, name, seen.offer) for seen in peers.values()):
        return book
    keys = {book.lane: book.keys[book.lane]}
    return replace(book, keys=keys, step=None, began=False, since=now)


def _has_returned(book: Book, name: str, offer: Offer | None) -> bool:
    """Whether a peer knows that we return, and so will not send on the other lane."""
    if offer is None or offer.step not in (None, Step.RETURNING):
        return False
    return offer.sending == book.lane and offer.heard.get(name) is Step.RETURNING


def _is_off(book: Book, peers: Peers, now: float, times: Times) -> bool:
    if book.began:
        return now - book.since > times.patience
    return _is_withdrawn(book, peers)


def _is_withdrawn(book: Book, peers: Peers) -> bool:
    """Whether nobody leads to the other lane any longer, as far as all have been heard."""
    offers = _offers(peers)
    heard = len(offers) == len(peers)
    return heard and not any(_leads(o, book.other) for o in offers)


def _leads(offer: Offer, lane: int) -> bool:
    """Whether a peer leads to a lane: it began, and goes on; or is there already."""
    if offer.step is None:
        return offer.lane == lane
    return offer.began and offer.step in _FORWARD and offer.other == lane


def _offers(peers: Peers) -> list[Offer]:
    return [seen.offer for seen in peers.values() if seen.offer is not None]


def _taken(book: Book, step: Step, now: float) -> Book:
    return replace(book, step=step, since=now)
