"""Rotations of gateways that hear late, restart, begin at once, and change their minds.

Nothing is ever sent where it does not arrive, and in the end all are on one lane.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.tunnel.book import Book, Place, Step, book_of, new_book, offer_of
from gateway.tunnel.errors import TunnelError
from gateway.tunnel.rotation import advance, begin, call_off
from gateway.tunnel.seen import Seen
from tests.gateway.tunnel.mesh import TIMES, Mesh, key, mesh, without_books

# What may happen in a walk, each with how often: one of these is drawn for each walk.
OFTEN = (1, 3, 10)
WEIGHTS: Mapping[str, Sequence[float]] = {
    **dict.fromkeys(("ask", "answer", "tick"), OFTEN),
    "shake": (0.3, *OFTEN),
    "lose": (0, 0.5),
    "round": (0, 0, 0.3, 1),
    "begin": (0.1, 0.3, 1),
    "call_off": (0, 0.1, 0.5),
    "tire": (0, 0, 0.1),
    **dict.fromkeys(("kill", "dies_learning", "dies_stepping"), (0, 0, 0.02, 0.1)),
}
FIRST: Mapping[str, Sequence[float]] = {
    **{kind: often for kind, often in WEIGHTS.items() if kind not in ("shake", "call_off")},
    **dict.fromkeys(("shake_on_0", "shake_on_1", "age"), OFTEN),
}
FORGET: Mapping[str, Sequence[float]] = {**WEIGHTS, "forget": (0.02, 0.1)}
LENGTHS = (100, 300)
seeds = st.integers(0, 1 << 32)


@dataclass
class Walk:
    """A mesh, and one thing after the other that happens in it, all by one seed."""

    built: Mesh
    chance: random.Random
    weights: Mapping[str, float]
    of_pairs: Mapping[tuple[str, str], float]

    def steps(self, *, careful: bool = True) -> Iterator[tuple[str, ...]]:
        """Go on, and yield what happened each time."""
        kinds, often = [*self.weights], [*self.weights.values()]
        for _ in range(self.chance.choice(LENGTHS)):
            (kind,) = self.chance.choices(kinds, often)
            pair = self.chance.choices([*self.of_pairs], [*self.of_pairs.values()])[0]
            if kind == "round":
                self.built.round(careful=careful)
            else:
                getattr(self.built, kind)(*pair)
            yield (kind, *pair)


def walk(
    seed: int, weights: Mapping[str, Sequence[float]], build: Callable[[int], Mesh] = mesh
) -> Walk:
    """Some hear each other seldom in it, or nobody gives up, or nobody dies: by the seed."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    built = build(chance.choice((2, 3, 3)))
    pairs = {pair: chance.choice((0.1, 1, 1, 1)) for pair in permutations(built.gateways, 2)}
    drawn = {kind: chance.choice(values) for kind, values in weights.items()}
    return Walk(built, chance, drawn, pairs)


@settings(max_examples=400, deadline=None)
@given(seeds)
def test_nothing_is_sent_where_it_does_not_arrive_and_all_ends(seed: int) -> None:
    walked = walk(seed, WEIGHTS)
    for happened in walked.steps():
        assert not [*walked.built.lost()], happened
        assert not [*walked.built.used_again()], happened
    walked.built.settle()


@settings(max_examples=200, deadline=None)
@given(seeds)
def test_whoever_lost_its_book_is_found_again(seed: int) -> None:
    walked = walk(seed, FORGET)
    for _ in walked.steps(careful=False):
        pass
    walked.built.settle(careful=False)
    assert not [*walked.built.lost()]


@settings(max_examples=400, deadline=None)
@given(seeds)
def test_who_never_ran_finds_the_others_whatever_comes_first(seed: int) -> None:
    walked = walk(seed, FIRST, without_books)
    for _ in walked.steps(careful=False):
        pass
    walked.built.settle(careful=False)
    walked.built.round()


@settings(max_examples=200, deadline=None)
@given(seeds)
def test_a_rotation_that_nobody_calls_off_succeeds(seed: int) -> None:
    walked = walk(seed, {**WEIGHTS, **dict.fromkeys(("begin", "call_off", "tire"), (0,))})
    walked.built.begin("a")
    before = walked.built.gateways["a"].book
    for happened, _ in zip(walked.steps(), range(40), strict=False):
        assert not [*walked.built.lost()], happened
    walked.built.settle()
    own = walked.built.gateways["a"].book
    assert own.keys == {own.lane: before.keys[before.other]}


@pytest.mark.parametrize("size", [2, 3])
def test_rotations_follow_each_other_at_once(size: int) -> None:
    built = mesh(size)
    turns = ["abc"[number % 2] for number in (0, 0, 1, 0, 1, 1)]
    for number, name in enumerate(turns):
        own = built.gateways[name]
        while own.book.turn == number:
            # Again and again, until the others are done with the one before.
            built.begin(name)
            built.round()
        wanted = own.book.keys[own.book.other]
        while own.book.step is not None:
            built.round()
        assert own.book.keys == {own.book.lane: wanted}
    built.settle()


def test_a_rotation_changes_the_key_of_who_began_alone() -> None:
    built = mesh(3)
    before = {name: item.book.keys[0] for name, item in built.gateways.items()}
    built.begin("a")
    seen = [Step.STAGED]
    for _ in range(30):
        built.round()
        seen.append(built.gateways["a"].book.step or Step.JOINING)
    assert list(dict.fromkeys(seen)) == [
        Step.STAGED,
        Step.VERIFIED,
        Step.SWITCHED,
        Step.DRAINING,
        Step.SETTLING,
        Step.JOINING,
    ]
    after = {name: item.book.keys[1] for name, item in built.gateways.items()}
    assert after["a"] != before["a"]
    assert (after["b"], after["c"]) == (before["b"], before["c"])


def test_a_rotation_that_is_called_off_changes_nothing() -> None:
    built = mesh(2)
    built.begin("a")
    for action in (("tick", "a"), ("ask", "b", "a"), ("answer", "b", "a"), ("tick", "b")):
        getattr(built, action[0])(*action[1:])
    assert built.gateways["b"].book.step is Step.STAGED
    built.call_off("a")
    built.settle()
    assert {name: item.book.keys for name, item in built.gateways.items()} == {
        name: {0: key(f"{name}0")} for name in "ab"
    }


def test_who_returns_waits_until_each_peer_has_heard_of_it() -> None:
    built = mesh(2)
    built.begin("a")
    built.tick("a")
    # What it tells is on its way when it is called off, and the peer follows it.
    built.ask("b", "a")
    built.call_off("a")
    for _ in range(3):
        built.tick("a")
        built.ask("a", "b")
        built.answer("a", "b")
    assert built.gateways["a"].book.step is Step.RETURNING
    built.answer("b", "a")
    built.tick("b")
    assert built.gateways["b"].book.step is Step.STAGED
    built.settle()
    # Another time it is the same: what was heard of the turn before does not count.
    built.round()
    built.begin("a")
    built.tick("a")
    built.call_off("a")
    built.tick("a")
    built.tick("a")
    assert built.gateways["a"].book.step is Step.RETURNING
    built.settle()


def test_no_rotation_begins_before_each_peer_is_done_with_the_one_before() -> None:
    built = mesh(2)
    a, b = built.gateways.values()
    built.begin("a")
    while a.book.step is not Step.SETTLING:
        built.round()
    while a.book.step is not None:
        assert b.book.step in (Step.DRAINING, Step.SETTLING)
        built.begin("a")
        assert a.book.turn == 1
        built.round()
    assert b.book.keys.keys() == {1}
    built.settle()


def test_a_peer_that_does_not_answer_ends_a_rotation_in_time() -> None:
    built, steps = mesh(2), []
    built.begin("a")
    for move in (built.tick, built.tire):
        move("a", "b")
        steps.append(built.gateways["a"].book.step)
    assert steps == [Step.STAGED, Step.RETURNING]


@pytest.mark.parametrize("size", [2, 3])
def test_gateways_that_never_ran_settle_on_one_lane(size: int) -> None:
    built = without_books(size)
    built.settle()
    assert {item.book.lane for item in built.gateways.values()} == {0}


@pytest.mark.parametrize("size", [2, 3])
def test_who_lost_its_book_comes_to_the_lane_of_the_others(size: int) -> None:
    built = mesh(size)
    built.begin("a")
    for _ in range(20):
        built.round()
    assert built.is_calm()
    built.forget("a")
    built.right_stacks()
    built.settle(careful=False)
    assert {item.book.lane for item in built.gateways.values()} == {1}
    assert {item.book.turn for item in built.gateways.values()} == {1}
    built.begin("a")
    built.settle()
    assert {item.book.lane for item in built.gateways.values()} == {0}


def test_who_joins_settles_once_those_who_join_as_well_have_heard_of_it() -> None:
    joining = new_book(key("p"), 0)

    def settles(peer: Book, heard: Mapping[str, Place]) -> bool:
        seen = {"peer": Seen(peer.offer(heard))}
        return advance(joining, "own", seen, 0, TIMES).step is None

    assert not settles(joining, {})
    assert settles(joining, {"own": joining.offer({}).place})
    assert settles(at(None), {})


def test_who_joins_goes_where_a_peer_sends_that_does_not_answer() -> None:
    """Hands are shaken on both lanes, but packets of one that has settled come on its own alone."""
    joining, told = new_book(key("p"), 0), new_book(key("q"), 0).offer({})

    def lane(seen: Seen) -> int:
        return advance(joining, "own", {"peer": seen}, 0, TIMES).lane

    shaken = {0: True, 1: True}
    assert lane(Seen(told, shaken, up=False, live=frozenset({1}))) == 1
    assert lane(Seen(told, shaken, up=False, live=frozenset({0, 1}))) == 0
    assert lane(Seen(told, {1: True}, up=True, live=frozenset({1}))) == 0
    assert lane(Seen(None, shaken, up=False, live=frozenset({1}))) == 1


BOTH = {0: key("p"), 1: key("p")}


def after(book: Book, peer: Book, heard: Place | None = None) -> Step | None:
    """The step of a gateway in rotation 3 that sees a peer, which has heard this of it."""
    told = peer.offer({"own": heard} if heard else {})
    seen = {"peer": Seen(told, fresh={0: True, 1: True})}
    return advance(replace(book, began=True), "own", seen, 0, TIMES).step


def at(step: Step | None, turn: int = 3, *, began: bool = False, lane: int = 0) -> Book:
    return Book(keys=BOTH, turn=turn, step=step, began=began, lane=lane)


def test_a_peer_is_verified_that_goes_along_in_the_same_rotation() -> None:
    for step in (Step.STAGED, Step.VERIFIED, Step.SWITCHED, Step.DRAINING, Step.JOINING):
        assert after(at(Step.STAGED), at(step)) is Step.VERIFIED
    for peer in (at(Step.RETURNING), at(Step.SETTLING), at(None), at(Step.DRAINING, turn=2)):
        assert after(at(Step.STAGED), peer) is Step.STAGED


def test_nobody_drains_before_each_peer_sends_on_the_other_lane() -> None:
    assert after(at(Step.SWITCHED), at(Step.VERIFIED)) is Step.SWITCHED
    assert after(at(Step.SWITCHED), at(Step.SWITCHED)) is Step.DRAINING
    assert after(at(Step.SWITCHED), at(Step.SWITCHED, turn=2)) is Step.SWITCHED


def test_nobody_enters_a_rotation_twice() -> None:
    assert after(at(None), at(Step.STAGED, began=True)) is None
    assert after(at(None), at(Step.STAGED, turn=4, began=True)) is Step.STAGED
    assert after(at(None), at(Step.STAGED, turn=4)) is None


def test_who_returns_looks_at_what_was_heard_in_this_rotation() -> None:
    returning = at(Step.RETURNING)
    assert after(returning, at(None, turn=2)) is Step.RETURNING
    assert after(returning, at(None, turn=2), Place(2, Step.RETURNING)) is Step.RETURNING
    assert after(returning, at(None, turn=2), Place(3, Step.RETURNING)) is Step.SETTLING
    assert after(returning, at(Step.DRAINING, began=True)) is Step.SWITCHED


def test_a_rotation_is_over_once_each_peer_has_one_lane() -> None:
    settling = at(Step.SETTLING, lane=1)
    for step in (Step.DRAINING, Step.RETURNING, Step.SWITCHED):
        assert after(settling, at(step)) is Step.SETTLING
    for peer in (at(None, lane=1), at(Step.SETTLING, lane=1), at(Step.STAGED, turn=4, lane=1)):
        assert after(settling, peer) is None


def test_what_cannot_be_begun_or_called_off() -> None:
    book = Book(keys={0: key("a")})
    with pytest.raises(TunnelError, match="there is none"):
        call_off(book, 0)
    begun = begin(book, key("b"), {}, 0)
    with pytest.raises(TunnelError, match="under way already: it is staged"):
        begin(begun, key("c"), {}, 0)
    with pytest.raises(TunnelError, match="it is draining"):
        call_off(replace(begun, step=Step.DRAINING), 0)
    with pytest.raises(TunnelError, match="begun elsewhere"):
        call_off(replace(begun, began=False), 0)
    with pytest.raises(TunnelError, match="not found its peers"):
        begin(new_book(key("a"), 0), key("b"), {}, 0)
    with pytest.raises(TunnelError, match="lux has not answered"):
        begin(book, key("b"), {"lux": Seen()}, 0)
    settling = replace(book, step=Step.SETTLING).offer({})
    with pytest.raises(TunnelError, match="lux is settling"):
        begin(book, key("b"), {"lux": Seen(settling)}, 0)


# --- As JSON --------------------------------------------------------------------------------------


def test_a_book_and_an_offer_survive_as_text() -> None:
    book = Book(
        keys={0: key("a"), 1: key("b")},
        turn=3,
        step=Step.DRAINING,
        began=True,
        since=12.5,
        peers={"lux-k8s": {1: key("l").public}},
        stack={"lux-k8s": key("l").public},
    )
    assert book_of(book.text()) == book
    offer = book.offer({"lux-k8s": Place(3, Step.STAGED), "c": Place(2, None)})
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
