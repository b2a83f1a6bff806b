"""One report of all faults: JSON for programs, a table for people, a page of the documentation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lab.faults.expect import Expectation, Injury, surprises
from lab.faults.tally import Edge, Tally, lost

_HEADS = (
    "fault",
    "back after",
    "opened",
    "failed",
    "asked",
    "cut",
    "outage",
    "disallowed",
    "passed",
    "answered",
    "lost",
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a fault went.

    Attributes:
        name: Of its kind.
        title: The same for people.
        target: What was killed.
        down: Seconds for which nobody started it again.
        recorded: Connections that the trail has as allowed, by edge.
        steady: Whether traffic was steady again afterwards.
    """

    name: str
    title: str
    target: str
    down: float
    expected: Expectation
    injury: Injury
    seen: Tally
    recorded: Mapping[Edge, int]
    steady: bool

    @property
    def lost(self) -> dict[Edge, int]:
        """Answered connections without a record."""
        return lost(self.seen.acknowledged, self.recorded)

    @property
    def surprises(self) -> tuple[str, ...]:
        """What is not as the design says."""
        found = list(surprises(self.expected, self.injury, self.seen, self.lost))
        if not self.steady:
            found.append("declared flows were not steady again afterwards")
        return tuple(found)


def as_json(outcomes: Sequence[Outcome], wanted: int | None = None) -> dict[str, Any]:
    """The report for programs; ``wanted`` is how many faults there should have been."""
    missing = 0 if wanted is None else wanted - len(outcomes)
    return {
        "held": not missing and not any(item.surprises for item in outcomes),
        "not_tried": missing,
        "passed": sum(item.seen.passed for item in outcomes),
        "lost": sum(sum(item.lost.values()) for item in outcomes),
        "faults": [_fault_json(item) for item in outcomes],
    }


def _fault_json(item: Outcome) -> dict[str, Any]:
    seen = item.seen
    return {
        "name": item.name,
        "target": item.target,
        "down_seconds": item.down,
        "recovery_seconds": _rounded(item.injury.recovery),
        "bound_seconds": item.expected.back,
        "may_fail": item.expected.may_fail,
        **seen.counts,
        "outage_seconds": _rounded(seen.outage),
        "acknowledged": sum(seen.acknowledged.values()),
        "lost": sum(item.lost.values()),
        "surprises": list(item.surprises),
    }


def show(console: Console, outcomes: Sequence[Outcome]) -> None:
    """Print the report."""
    table = Table(*_HEADS, box=box.SIMPLE, padding=0, collapse_padding=True)
    for item in outcomes:
        table.add_row(*_cells(item), style="red" if item.surprises else None)
    console.print(table)
    for item in outcomes:
        for sentence in item.surprises:
            console.print(f"[red]{escape(f'{item.title}: {sentence}')}")
    found = as_json(outcomes)
    colour = "[green]" if found["held"] else "[red]"
    console.print(
        f"{colour}{len(outcomes)} faults: {found['passed']} disallowed connections passed, "
        f"{found['lost']} records lost"
    )


def page(outcomes: Sequence[Outcome], cluster: str) -> str:
    """The page of the documentation, in Markdown."""
    return "\n".join(_lines(outcomes, cluster)) + "\n"


def _lines(outcomes: Sequence[Outcome], cluster: str) -> Iterator[str]:
    yield "# What breaks, and what does not"
    yield ""
    yield "Written by `sudo .venv/bin/zt lab faults --page docs/lab-faults.md`; do not edit."
    yield ""
    yield f"Each part of {cluster} was killed (SIGKILL) under traffic: every declared edge between"
    yield "the teams' services twice a second by a new connection and by a question on one that is"
    yield "kept, and beside them connections that the policy does not allow."
    yield ""
    yield from _table(_HEADS, (_cells(item) for item in outcomes))
    yield ""
    yield "*back after*: from the kill until it runs and its pods are ready; the time for which"
    yield "it was held down counts. *opened*, *failed*: new connections of declared flows. *asked*,"
    yield "*cut*: questions on kept ones, and kept ones that ended. *outage*: from the first failed"
    yield "attempt to the last. *disallowed*, *passed*: connections that should have been refused."
    yield "*answered*, *lost*: connections that were answered, and of these the ones that the audit"
    yield "trail does not have."
    yield ""
    yield "## What the design lets fail"
    yield ""
    heads = ("fault", "killed", "why", "may fail", "back within")
    yield from _table(heads, (_expected(item) for item in outcomes))
    yield ""
    yield "## Surprises"
    yield ""
    odd = [f"- {item.title}: {text}" for item in outcomes for text in item.surprises]
    yield from odd or ["None."]


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * len(heads)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def _cells(item: Outcome) -> tuple[str, ...]:
    seen, recovery = item.seen, item.injury.recovery
    return (
        item.title,
        "never" if recovery is None else f"{recovery:.1f} s",
        str(seen.opened),
        str(len(seen.failed)),
        str(seen.asked),
        str(len(seen.cut)),
        f"{seen.outage:.1f} s" if seen.outage else "-",
        str(seen.tried),
        str(seen.passed),
        str(sum(seen.acknowledged.values())),
        str(sum(item.lost.values())),
    )


def _expected(item: Outcome) -> tuple[str, ...]:
    held = f", held down {item.down:.0f} s" if item.down else ""
    return (
        item.title,
        f"{item.target}{held}",
        item.expected.why,
        item.expected.may_fail,
        f"{item.expected.back:.0f} s",
    )


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 2)
