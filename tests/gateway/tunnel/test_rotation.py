"""Rotations of gateways that hear late, restart, begin at once, and change their minds.

Nothing is ever sent where it does not arrive, and in the end all are on one lane.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.tunnel.book import LANES, Book, Key, Offer, Step, book_of, offer_of
from gateway.tunnel.errors import TunnelError
from gateway.tunnel.rotation import Seen, Times, advance, begin, call_off

TIMES = Times(drain=3, patience=40)


@dataclass
class Gateway:
    """A gateway: its book, and what it has last heard of the others."""

    name: str
    book: Book
    heard: dict[str, Offer] = field(default_factory=dict)
    made: int = 0

    @property
    def offer(self) -> Offer:
        return self.book.offer({name: offer.step for name, offer in self.heard.items()})

    def knows(self, other: Gateway, lane: int) -> bool:
        """Whether its interface of a lane has the key that the other's has."""
        key = other.book.keys.get(lane)
        known = self.book.peers.get(other.name, {}).get(lane)
        return lane in self.book.keys and key is not None and known == key.public


@dataclass
class Mesh:
    gateways: dict[str, Gateway]
    now: float = 0.0

    def hear(self, name: str, other: str) -> None:
        """One asks the other, if there is a way between them."""
        asking, asked = self.gateways[name], self.gateways[other]
        offer = asked.offer
        asking.heard[other] = offer
        peers = {**asking.book.peers, other: dict(offer.keys)}
        asking.book = replace(asking.book, peers=peers)

    def tick(self, name: str) -> None:
        self.now += 1
        own = self.gateways[name]
        peers = {
            other.name: Seen(
                own.heard.get(other.name),
                {lane: own.knows(other, lane) and other.knows(own, lane) for lane in LANES},
            )
            for other in self.gateways.values()
            if other is not own
        }
        own.book = advance(own.book, name, peers, self.now, TIMES)

    def begin(self, name: str) -> None:
        own = self.gateways[name]
        own.made += 1
        try:
            own.book = begin(own.book, key(f"{name}{own.made}"), self.now)
        except TunnelError:
            assert own.book.step is not None

    def call_off(self, name: str) -> None:
        own = self.gateways[name]
        try:
            own.book = call_off(own.book, self.now)
        except TunnelError:
            assert own.book.step not in (Step.STAGED, Step.VERIFIED) or not own.book.began

    def restart(self, name: str) -> None:
        """What is in memory is lost, what is stored is not."""
        own = self.gateways[name]
        own.heard.clear()
        own.book = book_of(own.book.text())

    def lost(self) -> Iterator[str]:
        """Whose packets do not arrive."""
        for source in self.gateways.values():
            for target in self.gateways.values():
                lane = source.book.sending
                if source is not target and not (
                    source.knows(target, lane) and target.knows(source, lane)
                ):
                    yield f"{source.name} to {target.name} on lane {lane}"

    def settle(self) -> None:
        for _ in range(200):
            for name in self.gateways:
                for other in self.gateways:
                    if other != name:
                        self.hear(name, other)
                        assert not [*self.lost()]
                self.tick(name)
                assert not [*self.lost()]


def key(name: str) -> Key:
    return Key(f"private-{name}", f"{name:x<43}=", 0.0)


def mesh(size: int) -> Mesh:
    names = "abc"[:size]
    books = {name: Book(keys={0: key(f"{name}0")}) for name in names}
    known = {name: {0: book.keys[0].public} for name, book in books.items()}
    return Mesh(
        {
            name: Gateway(name, replace(book, peers={n: k for n, k in known.items() if n != name}))
            for name, book in books.items()
        }
    )


def actions(size: int) -> st.SearchStrategy[list[tuple[str, str, str]]]:
    names = st.sampled_from("abc"[:size])
    kinds = st.sampled_from(("hear",) * 6 + ("tick",) * 6 + ("begin", "call_off", "restart"))
    return st.lists(st.tuples(kinds, names, names), max_size=120)


@settings(max_examples=400)
@given(st.integers(2, 3).flatmap(lambda size: st.tuples(st.just(size), actions(size))))
def test_nothing_is_sent_where_it_does_not_arrive(
    drawn: tuple[int, list[tuple[str, str, str]]],
) -> None:
    size, listed = drawn
    built = mesh(size)
    for kind, name, other in listed:
        if kind == "hear":
            if name != other:
                built.hear(name, other)
        else:
            getattr(built, kind)(name)
        assert not [*built.lost()], (kind, name, other)
    built.settle()
    books = [item.book for item in built.gateways.values()]
    assert {book.step for book in books} == {None}
    assert len({book.lane for book in books}) == 1
    assert all(book.keys.keys() == {book.lane} for book in books)


def test_a_rotation_changes_the_key_of_who_began_alone() -> None:
    built = mesh(3)
    before = {name: item.book.keys[0] for name, item in built.gateways.items()}
    built.begin("a")
    seen = []
    for _ in range(30):
        for name in built.gateways:
            for other in built.gateways.keys() - {name}:
                built.hear(name, other)
            built.tick(name)
        seen.append(built.gateways["a"].book.step)
    assert list(dict.fromkeys(seen)) == [
        Step.STAGED,
        Step.VERIFIED,
        Step.SWITCHED,
        Step.DRAINING,
        None,
    ]
    after = {name: item.book.keys[1] for name, item in built.gateways.items()}
    assert after["a"] != before["a"]
    assert (after["b"], after["c"]) == (before["b"], before["c"])


def test_a_rotation_that_is_called_off_changes_nothing() -> None:
    built = mesh(2)
    built.begin("a")
    for _ in range(2):
        built.hear("b", "a")
        built.tick("b")
    assert built.gateways["b"].book.step is Step.STAGED
    built.call_off("a")
    built.settle()
    assert {name: item.book.keys for name, item in built.gateways.items()} == {
        name: {0: key(f"{name}0")} for name in "ab"
    }


def test_a_peer_that_does_not_answer_ends_a_rotation_in_time() -> None:
    built = mesh(2)
    built.begin("a")
    for _ in range(60):
        built.tick("a")
    assert built.gateways["a"].book.step is Step.RETURNING


def test_what_cannot_be_begun_or_called_off() -> None:
    book = Book(keys={0: key("a")})
    with pytest.raises(TunnelError, match="there is none"):
        call_off(book, 0)
    begun = begin(book, key("b"), 0)
    with pytest.raises(TunnelError, match="under way already: it is staged"):
        begin(begun, key("c"), 0)
    with pytest.raises(TunnelError, match="it is draining"):
        call_off(replace(begun, step=Step.DRAINING), 0)
    with pytest.raises(TunnelError, match="begun elsewhere"):
        call_off(replace(begun, began=False), 0)


# --- As JSON --------------------------------------------------------------------------------------


def test_a_book_and_an_offer_survive_as_text() -> None:
    book = Book(
        keys={0: key("a"), 1: key("b")},
        step=Step.DRAINING,
        began=True,
        since=12.5,
        peers={"lux-k8s": {1: key("l").public}},
        stack={"lux-k8s": key("l").public},
    )
    assert book_of(book.text()) == book
    offer = book.offer({"lux-k8s": Step.STAGED})
    assert offer_of(offer.text()) == offer
    assert "private" not in offer.text()


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"keys": {"2": 1}}', '{"keys": {"0": "secret"}, "lane": 0}']
)
def test_what_is_no_book_and_no_offer(text: str) -> None:
    with pytest.raises(TunnelError) as caught:
        book_of(text)
    assert "secret" not in str(caught.value)
    with pytest.raises(TunnelError):
        offer_of(text)


def test_a_book_without_the_key_of_its_lane() -> None:
    for book in (Book(keys={1: key("a")}), Book(keys={0: key("a")}, step=Step.STAGED)):
        with pytest.raises(TunnelError, match="a key is missing"):
            book_of(book.text())


def test_a_private_key_is_never_shown() -> None:
    assert "private" not in repr(Book(keys={0: key("a")}))
