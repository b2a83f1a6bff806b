"""Pauses grow while it does not go well, and are short again when it does."""

from collections.abc import Sequence

import pytest

from engine import again

SHORTEST, LONGEST = 1.0, 10.0


class Enough(Exception):  # noqa: N818 - the only way out
    """Ends what goes on for ever."""


def pauses(monkeypatch: pytest.MonkeyPatch, steps: Sequence[tuple[bool, float]]) -> list[float]:
    """Pauses after steps that went well or not and took so long, without the dice."""
    monkeypatch.setattr("engine.again.random.uniform", lambda _low, high: high)
    now = 0.0
    left = list(steps)
    found: list[float] = []

    def step() -> bool:
        nonlocal now
        if not left:
            raise Enough
        went_well, took = left.pop(0)
        now += took
        return went_well

    monkeypatch.setattr("engine.again.time.monotonic", lambda: now)
    with pytest.raises(Enough):
        again.for_ever(step, SHORTEST, LONGEST, found.append)
    return found


def test_they_double_up_to_the_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pauses(monkeypatch, [(False, 0.0)] * 6) == [2, 4, 8, 10, 10, 10]


def test_they_are_short_again_after_a_good_step(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = [(True, 0.0), (False, 0.0), (False, 0.0), (True, 0.0), (False, 0.0)]
    assert pauses(monkeypatch, steps) == [1, 2, 4, 1, 2]


def test_a_long_step_was_a_good_one(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = [(False, 0.0), (False, LONGEST + 1), (False, LONGEST - 1)]
    assert pauses(monkeypatch, steps) == [2, 1, 2]


def test_replicas_pause_differently() -> None:
    found: list[float] = []

    def sleep(pause: float) -> None:
        found.append(pause)
        if len(found) == 50:
            raise Enough

    with pytest.raises(Enough):
        again.for_ever(lambda: True, SHORTEST, LONGEST, sleep)
    assert all(SHORTEST / 2 <= pause <= SHORTEST for pause in found)
    assert len(set(found)) > 40
