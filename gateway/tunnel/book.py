"""What a gateway keeps of its tunnel, and what it tells its peers; both as JSON.

A gateway has two lanes, each a WireGuard interface with a port of its own. One carries the tunnel;
the other is there during a rotation alone (``gateway.tunnel.rotation``), and while a gateway that
begins anew looks for its peers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from gateway.tunnel.errors import TunnelError

LANES = (0, 1)
Json = dict[str, Any]


class Step(StrEnum):
    """How far a rotation is; or that a gateway looks for its peers, and has not rotated yet."""

    JOINING = "joining"
    STAGED = "staged"
    VERIFIED = "verified"
    SWITCHED = "switched"
    DRAINING = "draining"
    RETURNING = "returning"
    SETTLING = "settling"


# At these a gateway has but one lane.
ON_ONE_LANE = (None, Step.SETTLING)


@dataclass(frozen=True)
class Key:
    """A key pair, base64 as ``wg`` writes it; ``created`` in seconds since the epoch."""

    private: str = field(repr=False)
    public: str
    created: float


@dataclass(frozen=True)
class Place:
    """Where a gateway is: at a step of a rotation, which all gateways count alike."""

    turn: int
    step: Step | None


@dataclass(frozen=True)
class Offer:
    """What a gateway tells its peers: nothing of it is secret.

    Attributes:
        keys: Public keys by lane: those of the lanes that it accepts packets on.
        lane: The lane that it is on when no rotation is under way.
        sending: The lane that it sends on.
        turn: The number of the rotation that it is in, or was in last.
        step: How far that one is.
        began: Whether it is the one that began it.
        heard: Where its peers are, by cluster, as far as it has acted on that.
    """

    keys: Mapping[int, str]
    lane: int
    sending: int
    turn: int = 0
    step: Step | None = None
    began: bool = False
    heard: Mapping[str, Place] = field(default_factory=dict)

    @property
    def place(self) -> Place:
        """Where it is."""
        return Place(self.turn, self.step)

    def text(self) -> str:
        """As JSON."""
        return json.dumps(
            {
                "keys": {str(lane): key for lane, key in self.keys.items()},
                "lane": self.lane,
                "sending": self.sending,
                "turn": self.turn,
                "step": self.step,
                "began": self.began,
                "heard": {name: vars(place) for name, place in self.heard.items()},
            }
        )


def offer_of(text: str) -> Offer:
    """An offer from JSON.

    Raises:
        TunnelError: if it is none.
    """
    try:
        found = json.loads(text)
        return Offer(
            keys={_lane(lane): _public(key) for lane, key in found["keys"].items()},
            lane=_lane(found["lane"]),
            sending=_lane(found["sending"]),
            turn=int(found["turn"]),
            step=_step(found["step"]),
            began=bool(found["began"]),
            heard={
                str(name): Place(int(place["turn"]), _step(place["step"]))
                for name, place in found["heard"].items()
            },
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TunnelError(f"a peer tells what is no offer: {error!r}") from None


def new_book(key: Key, now: float) -> Book:
    """The book of a gateway that begins anew, on whichever lane its peers are."""
    return Book(keys=dict.fromkeys(LANES, key), step=Step.JOINING, since=now)


@dataclass(frozen=True)
class Book:
    """What must survive a restart at any moment; the private keys are in it.

    Attributes:
        keys: Own keys by lane.
        lane: The lane of the tunnel; during a rotation, the one that is left.
        turn: The number of the rotation that it is in, or was in last.
        step: How far that one is; ``None`` if it is over.
        began: Whether it was begun here.
        since: When the step was taken.
        peers: Public keys of peers, by cluster and lane, as they last told.
        stack: The keys of peers that the stack knew, by cluster, when they were last heard of.
    """

    keys: Mapping[int, Key]
    lane: int = 0
    turn: int = 0
    step: Step | None = None
    began: bool = False
    since: float = 0.0
    peers: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    stack: Mapping[str, str] = field(default_factory=dict)

    @property
    def other(self) -> int:
        """The lane that a rotation leads to."""
        return 1 - self.lane

    @property
    def sending(self) -> int:
        """The lane that packets go out on."""
        return self.other if self.step in (Step.SWITCHED, Step.DRAINING) else self.lane

    def offer(self, heard: Mapping[str, Place]) -> Offer:
        """What peers are told."""
        public = {lane: key.public for lane, key in self.keys.items()}
        return Offer(public, self.lane, self.sending, self.turn, self.step, self.began, heard)

    def text(self) -> str:
        """As JSON, with the private keys."""
        return json.dumps(
            {
                "keys": {str(lane): vars(key) for lane, key in self.keys.items()},
                "lane": self.lane,
                "turn": self.turn,
                "step": self.step,
                "began": self.began,
                "since": self.since,
                "peers": {
                    name: {str(lane): key for lane, key in keys.items()}
                    for name, keys in self.peers.items()
                },
                "stack": dict(self.stack),
            }
        )


def book_of(text: str) -> Book:
    """A book from JSON.

    Raises:
        TunnelError: if it is none; says nothing of what is in it.
    """
    try:
        found = json.loads(text)
        book = Book(
            keys={_lane(lane): Key(**key) for lane, key in found["keys"].items()},
            lane=_lane(found["lane"]),
            # Rotations were not always numbered.
            turn=int(found.get("turn", 0)),
            step=_step(found["step"]),
            began=bool(found["began"]),
            since=float(found["since"]),
            peers={
                name: {_lane(lane): _public(key) for lane, key in keys.items()}
                for name, keys in found["peers"].items()
            },
            stack=dict(found["stack"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        kind = type(error).__name__
        raise TunnelError(f"what KMS has is no book of a tunnel ({kind})") from None
    if book.lane not in book.keys or (book.step not in ON_ONE_LANE and book.other not in book.keys):
        raise TunnelError("what KMS has is no book of a tunnel (a key is missing)")
    return book


def _lane(value: Any) -> int:  # noqa: ANN401 - any JSON
    lane = int(value)
    if lane not in LANES:
        raise ValueError(f"lane {lane}")
    return lane


def _step(value: Any) -> Step | None:  # noqa: ANN401 - any JSON
    return None if value is None else Step(value)


def _public(value: Any) -> str:  # noqa: ANN401 - any JSON
    """A public key of WireGuard: 32 bytes, base64."""
    if not isinstance(value, str) or len(value) != 44 or not value.endswith("="):  # noqa: PLR2004
        raise ValueError("no public key")
    return value
