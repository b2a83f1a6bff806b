"""Which attempts may be made at once: such as can be told apart in the trail, and on the wire."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable

from lab.attack.model import Attempt, Dial, Layer, Plane

_DROPPED = {Layer.NETWORK_POLICY}

Round = tuple[Attempt, ...]


def rounds(attempts: Iterable[Attempt], removed: Collection[Plane] = ()) -> tuple[Round, ...]:
    """Attempts in as few rounds as can be, each in the first that has room for it."""
    made: list[list[Attempt]] = []
    taken: list[set[Hashable]] = []
    for attempt in attempts:
        marks = _marks(attempt, removed)
        number = next((n for n, found in enumerate(taken) if not found & marks), len(made))
        if number == len(made):
            made.append([])
            taken.append(set())
        made[number].append(attempt)
        taken[number] |= marks
    return tuple(map(tuple, made))


def _marks(attempt: Attempt, removed: Collection[Plane]) -> set[Hashable]:
    """What no two attempts of a round may share."""
    action, marks = attempt.action, set[Hashable]()
    # Only what is dropped on its way leaves no record, whatever else goes wrong.
    if attempt.destination and attempt.attack.stopped_by(removed) != _DROPPED:
        marks.add((attempt.destination, attempt.port))
    if isinstance(action, Dial):
        asked = action.question
        protocol = "udp" if asked.get("mode") == "udp" else "tcp"
        marks.add((action.source, protocol, asked["host"], asked["port"]))
        # Through a Service's address one comes to the same port as by the pod's own.
        marks.add((action.source, protocol, attempt.target, attempt.port or asked["port"]))
    return marks
