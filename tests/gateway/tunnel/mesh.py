"""A mesh of gateways without a network, for trying every order of things.

Answers come late or never, whoever is killed loses what is in memory, at any moment of a tick; and
an interface that is made anew knows nothing of the sessions of the one before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Interface
from itertools import count, permutations

from gateway.tunnel.book import LANES, Book, Key, Offer, Step, book_of, new_book
from gateway.tunnel.errors import TunnelError
from gateway.tunnel.known import keys_of, learned
from gateway.tunnel.peers import Peer, Tunnel
from gateway.tunnel.rotation import Times, advance, begin, call_off
from gateway.tunnel.seen import Peers, Seen

# The shortest that the old lane may stay: nothing depends on that.
TIMES = Times(drain=0, patience=150)
IMPATIENT = Times(drain=0, patience=0)
_ROUNDS = 200


def key(name: str) -> Key:
    return Key(f"private-{name}", f"{name:x<43}=", 0.0)


@dataclass(frozen=True)
class Interface:
    """A lane's interface; ``number`` is another for each that is made."""

    number: int
    key: Key
    peers: Mapping[str, str]


@dataclass(frozen=True)
class Session:
    """Between two interfaces, each with a key, as one side remembers it."""

    own: int
    other: int
    public: str


@dataclass
class Gateway:
    """A gateway: its book and its stack's keys last; the rest is in memory."""

    name: str
    book: Book
    stack: dict[str, str]
    done: Book | None = None
    told: Offer | None = None
    heard: dict[str, Offer] = field(default_factory=dict)
    lanes: dict[int, Interface] = field(default_factory=dict)
    sessions: dict[tuple[int, str], Session] = field(default_factory=dict)
    live: set[tuple[int, str]] = field(default_factory=set)
    up: set[str] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)

    @property
    def tunnel(self) -> Tunnel:
        peers = tuple(Peer(n, "", 0, "", (), 25, public, None) for n, public in self.stack.items())
        return Tunnel(self.name, IPv4Interface("10.10.0.1/24"), 51820, peers)

    def act(self, numbers: Iterator[int]) -> None:
        """Have the interfaces be as the book says."""
        known = keys_of(self.book, self.tunnel)
        used = {lane.key.private for lane in self.lanes.values()}
        for lane, own in self.book.keys.items():
            peers = {name: keys[lane] for name, keys in known.items() if lane in keys}
            before = self.lanes.get(lane)
            number = before.number if before and before.key == own else next(numbers)
            self.lanes[lane] = Interface(number, own, peers)
        for lane in self.lanes.keys() - self.book.keys.keys():
            del self.lanes[lane]
        self.gone |= used - {own.private for own in self.book.keys.values()}
        self.sessions = {at: s for at, s in self.sessions.items() if self.has(at, s)}
        self.done = self.book

    def has(self, at: tuple[int, str], session: Session) -> bool:
        """Whether a session is of an interface, and of a peer's key, that are there still."""
        lane, name = at
        found = self.lanes.get(lane)
        return (
            found is not None
            and found.number == session.own
            and found.peers.get(name) == session.public
        )

    def seen(self) -> Peers:
        return {
            name: Seen(
                self.heard.get(name),
                {lane: (lane, name) in self.sessions for lane in LANES},
                name in self.up,
                frozenset(lane for lane in LANES if (lane, name) in self.live),
            )
            for name in self.stack
        }


@dataclass
class Mesh:
    gateways: dict[str, Gateway]
    at_once: bool = True
    now: float = 0.0
    answers: dict[tuple[str, str], Offer] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=count)
    made: Iterator[int] = field(default_factory=lambda: count(1))

    # --- What may happen, each with a gateway and another ---

    def ask(self, name: str, other: str) -> None:
        """One asks another, whose answer is on its way from then on."""
        told, done = self.gateways[other].told, self.gateways[name].done
        if done and self._reaches(name, other):
            self.gateways[other].live.add((done.sending, name))
            if told is not None:
                self.answers.setdefault((name, other), told)

    def answer(self, name: str, other: str) -> None:
        """An answer arrives."""
        told = self.answers.pop((name, other), None)
        if told is not None:
            self.gateways[name].heard[other] = told
            self.gateways[name].up.add(other)

    def lose(self, name: str, other: str) -> None:
        """An answer does not arrive."""
        self.answers.pop((name, other), None)

    def shake(self, name: str, other: str) -> None:
        """Two gateways shake hands wherever they know each other."""
        for lane in LANES:
            self._shake(lane, name, other)

    def shake_on_0(self, name: str, other: str) -> None:
        """On one lane they do so sooner than on the other."""
        self._shake(0, name, other)

    def shake_on_1(self, name: str, other: str) -> None:
        self._shake(1, name, other)

    def _shake(self, lane: int, name: str, other: str) -> None:
        if not (self._knows(name, other, lane) and self._knows(other, name, lane)):
            return
        for one, two in ((name, other), (other, name)):
            gateway = self.gateways[one]
            own, peer = gateway.lanes[lane], self.gateways[two].lanes[lane]
            session = Session(own.number, peer.number, peer.key.public)
            if gateway.sessions.get((lane, two)) != session:
                gateway.sessions[lane, two] = session
                gateway.live.add((lane, two))

    def age(self, name: str, other: str) -> None:
        """Nothing has come from another for a while."""
        self.gateways[name].up.discard(other)
        self.gateways[name].live -= {(lane, other) for lane in LANES}

    def tick(self, name: str, _: str = "", dies: str = "", times: Times = TIMES) -> None:
        """One looks at everything; or is killed after it ``learned`` or took the next ``step``."""
        self.now += 1
        own = self.gateways[name]
        if own.done is None:
            self._start(own)
        heard = dict(own.heard)
        own.book = learned(own.book, heard, own.tunnel)
        if dies != "learned":
            own.book = advance(own.book, name, own.seen(), self.now, times)
        if dies:
            self.kill(name)
            return
        own.act(self.numbers)
        own.told = own.book.offer({n: offer.place for n, offer in heard.items()})

    def tire(self, name: str, _: str) -> None:
        """One has waited for long enough."""
        self.tick(name, times=IMPATIENT)

    def dies_learning(self, name: str, _: str) -> None:
        self.tick(name, dies="learned")

    def dies_stepping(self, name: str, _: str) -> None:
        self.tick(name, dies="step")

    def kill(self, name: str, _: str = "") -> None:
        """What is in memory is lost, what is stored is not."""
        own = self.gateways[name]
        own.done = own.told = None
        for memory in (own.heard, own.lanes, own.sessions, own.live, own.up):
            memory.clear()
        own.book = book_of(own.book.text())
        self.answers = {at: told for at, told in self.answers.items() if at[0] != name}

    def begin(self, name: str, _: str = "") -> None:
        own = self.gateways[name]
        if own.done is not None:
            try:
                own.book = begin(own.book, self._new_key(name), own.seen(), self.now)
            except TunnelError:
                return

    def call_off(self, name: str, _: str = "") -> None:
        own = self.gateways[name]
        try:
            own.book = call_off(own.book, self.now)
        except TunnelError:
            assert own.book.step not in (Step.STAGED, Step.VERIFIED) or not own.book.began

    def forget(self, name: str, _: str = "") -> None:
        """Its book is lost, and it begins anew."""
        own = self.gateways[name]
        own.book = new_book(self._new_key(name), self.now)
        own.gone.clear()
        self.kill(name)

    # --- What is so ---

    def lost(self) -> Iterator[str]:
        """Whose packets do not arrive, of those that are up."""
        up = [name for name, item in self.gateways.items() if item.done is not None]
        for name, other in permutations(up, 2):
            own, peer = self.gateways[name], self.gateways[other]
            lane = own.done.sending if own.done else 0
            session = own.sessions.get((lane, other))
            # Without a session packets wait until hands are shaken; with a dead one they are lost.
            if not self._reaches(name, other) or (
                session and session.other != peer.lanes[lane].number
            ):
                yield f"{name} to {other} on lane {lane}"

    def _knows(self, name: str, other: str, lane: int) -> bool:
        """Whether an interface has the key that the other's has."""
        found, peer = self.gateways[name].lanes.get(lane), self.gateways[other].lanes.get(lane)
        return found is not None and peer is not None and found.peers.get(other) == peer.key.public

    def _reaches(self, name: str, other: str) -> bool:
        own = self.gateways[name].done
        lane = own.sending if own else 0
        return self._knows(name, other, lane) and self._knows(other, name, lane)

    def used_again(self) -> Iterator[str]:
        """Keys that were removed, and are there again."""
        for item in self.gateways.values():
            yield from item.gone & {own.private for own in item.book.keys.values()}

    def is_calm(self) -> bool:
        """Whether all are on one lane alone, and no rotation is under way."""
        books = [item.book for item in self.gateways.values()]
        lanes = {book.lane for book in books}
        return len(lanes) == 1 and all(
            book.step is None and book.keys.keys() == lanes for book in books
        )

    def settle(self, *, careful: bool = True) -> int:
        """Everything arrives; returns how many rounds it takes until all is calm.

        Where a book was lost nothing is promised meanwhile, and people see to the stacks.
        """
        for rounds in range(_ROUNDS):
            if self.is_calm() and all(item.done for item in self.gateways.values()):
                return rounds
            if not careful:
                self.right_stacks()
            self.round(careful=careful)
        states = {name: (item.book, item.heard) for name, item in self.gateways.items()}
        raise AssertionError(f"it does not end: {states}")

    def round(self, *, careful: bool = True) -> None:
        """Everybody hears everybody, and looks at everything."""
        for name, other in permutations(self.gateways, 2):
            self.age(name, other)
        for name, other in permutations(self.gateways, 2):
            self.shake(name, other)
            self.lose(name, other)
            self.ask(name, other)
            self.answer(name, other)
        for name in self.gateways:
            self.tick(name)
            if careful:
                assert not [*self.lost()]
                assert not [*self.used_again()]

    def right_stacks(self) -> None:
        """Every stack is made to say the keys that gateways send with now."""
        for name, other in permutations(self.gateways, 2):
            own, book = self.gateways[name], self.gateways[other].book
            public = book.keys[book.sending].public
            if own.stack[other] != public:
                own.stack[other] = public
                own.heard.pop(other, None)

    # --- Its own ---

    def _start(self, own: Gateway) -> None:
        """Whoever comes back shakes hands at once, by its keepalive, or lane by lane."""
        own.act(self.numbers)
        if not self.at_once:
            return
        for other in self.gateways.keys() - {own.name}:
            self.shake(own.name, other)

    def _new_key(self, name: str) -> Key:
        return key(f"{name}{next(self.made)}")


def mesh(size: int) -> Mesh:
    """Gateways that are calm, on lane 0, and have heard each other."""
    names = "abc"[:size]
    publics = {name: key(f"{name}0").public for name in names}
    built = Mesh({})
    for name in names:
        stack = {other: public for other, public in publics.items() if other != name}
        told = {other: {0: public} for other, public in stack.items()}
        book = Book(keys={0: key(f"{name}0")}, peers=told, stack=stack)
        built.gateways[name] = Gateway(name, book, dict(stack))
    for _ in range(2):
        built.round()
    return built


def without_books(size: int) -> Mesh:
    """Gateways that never ran before, of which the stacks know."""
    built = mesh(size)
    for name in built.gateways:
        built.forget(name)
    built.right_stacks()
    built.at_once = False
    return built
