"""What a rotation of the CAs came to, for people and programs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.markup import escape

from lab.faults.tally import Tally


@dataclass(frozen=True, slots=True)
class Stage:
    """A step of the rotation, and how long it took until everybody had followed."""

    name: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Rotated:
    """What was done, and what it did to the traffic; ``across`` is what crosses the tunnel."""

    stages: tuple[Stage, ...]
    tally: Tally
    across: Tally


def as_json(rotated: Rotated) -> dict[str, Any]:
    """For programs."""
    return {
        "held": not rotated.tally.surprises,
        "stages": [asdict(stage) for stage in rotated.stages],
        **rotated.tally.counts,
        "across": rotated.across.counts,
        "surprises": list(rotated.tally.surprises),
    }


def show(console: Console, rotated: Rotated) -> None:
    """For people."""
    for sentence in rotated.tally.surprises:
        console.print(f"[red]{escape(sentence)}")
    seen, crossed = rotated.tally, rotated.across
    colour = "[red]" if rotated.tally.surprises else "[green]"
    console.print(
        f"{colour}a new root: {len(seen.failed)} of {seen.opened} new connections failed, "
        f"{len(seen.cut)} open ones ended in {seen.asked} questions; {seen.passed} of {seen.tried} "
        f"that may not be passed; across the tunnel {len(crossed.failed)} of {crossed.opened} "
        f"failed, and {len(crossed.cut)} ended in {crossed.asked}"
    )
