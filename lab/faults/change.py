"""How grants and revocations went: how fast they arrived, and what they cut. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from rich.console import Console
from rich.markup import escape

from lab.faults.tally import Event, Failure, Flow, Seen, Side, tally

# Seconds, as the documentation states them.
BOUND = 60.0


@dataclass(frozen=True, slots=True)
class Change:
    """How a change went. Times are seconds after `pulumi up` had ended, of each flow; may be < 0.

    Attributes:
        up: How long `pulumi up` took.
        concerned: Flows that the change is about.
        new: From when on new connections of each were answered, or refused.
        kept: The same of kept ones: when it was first answered, or when it ended.
        cut: Other connections that ended.
        failed: Attempts of other flows that failed.
        passed: Connections that should have been refused, of flows that the change is not about.
        steady: Whether all other flows were steady afterwards.
    """

    up: float
    concerned: int
    new: tuple[float, ...]
    kept: tuple[float, ...]
    cut: tuple[Failure, ...]
    failed: tuple[Failure, ...]
    passed: int
    steady: bool

    @property
    def last(self) -> float | None:
        """When the change was in force for all flows, on both sides."""
        if min(len(self.new), len(self.kept)) < self.concerned:
            return None
        return max(*self.new, *self.kept)


@dataclass(frozen=True, slots=True)
class Changes:
    """A grant, its revocation, and another one while NetworkPolicies were held as they were."""

    grant: Change
    revocation: Change
    alone: Change

    @property
    def surprises(self) -> tuple[str, ...]:
        """What is not as it should be."""
        found = [
            *_late("grant", self.grant),
            *_late("revocation", self.revocation),
            *_late("revocation by sidecars alone", self.alone),
        ]
        found += [f"the grant cut {item.flow}: {item.error}" for item in self.grant.cut]
        found += [f"the grant failed {item.flow}: {item.error}" for item in self.grant.failed]
        return tuple(found)


def _late(name: str, change: Change) -> Iterator[str]:
    if change.last is None:
        there = min(len(change.new), len(change.kept))
        yield f"the {name} reached {there} of {change.concerned} flows"
    elif change.last > BOUND:
        yield f"the {name} took {change.last:.1f} s, and not {BOUND:.0f} s"
    if change.passed:
        yield f"{change.passed} connections passed beside the {name}"
    if not change.steady:
        yield f"after the {name} other flows were not steady"


def measured(
    seen: Iterable[Seen],
    flows: set[Flow],
    moments: tuple[float, float],
    seconds: float,
    *,
    steady: bool,
) -> Change:
    """What flows saw of a change that began and ended at these moments, in seconds of the epoch."""
    began, ended = moments
    late = [replace(item, events=_since(item, began)) for item in seen]
    concerned = [item for item in late if item.flow in flows]
    others = tally(item for item in late if item.flow not in flows)
    return Change(
        up=seconds,
        concerned=len(concerned),
        new=tuple(_moments(concerned, Side.NEW, ended)),
        kept=tuple(_moments(concerned, Side.KEPT, ended)),
        cut=others.cut,
        failed=others.failed,
        passed=others.passed,
        steady=steady,
    )


def _since(seen: Seen, began: float) -> tuple[Event, ...]:
    """The events from a moment on, after the last before it of each side."""
    before = {item.side: item for item in seen.events if item.at < began}
    return (*before.values(), *(item for item in seen.events if item.at >= began))


def _moments(concerned: Sequence[Seen], side: Side, ended: float) -> Iterator[float]:
    """When each flow turned for the last time: from refused to answered, or the other way."""
    for item in concerned:
        turned = None
        events = [event for event in item.events if event.side is side]
        for before, event in pairwise(events):
            if (before.error is None) != (event.error is None):
                turned = event.at
        if turned is not None:
            yield turned - ended


# --- What is said ---------------------------------------------------------------------------------


def as_json(found: Changes) -> dict[str, Any]:
    """The figures for programs."""
    return {
        "held": not found.surprises,
        "bound_seconds": BOUND,
        "grant": _change_json(found.grant),
        "revocation": _change_json(found.revocation),
        "revocation_by_sidecars_alone": _change_json(found.alone),
        "surprises": list(found.surprises),
    }


def _change_json(change: Change) -> dict[str, Any]:
    return {
        "up_seconds": round(change.up, 2),
        "flows": change.concerned,
        "new_seconds": _span(change.new),
        "kept_seconds": _span(change.kept),
        "others_cut": len(change.cut),
        "others_failed": len(change.failed),
    }


def _span(found: Sequence[float]) -> dict[str, float] | None:
    if not found:
        return None
    return {"first": round(min(found), 2), "last": round(max(found), 2)}


def show(console: Console, found: Changes) -> None:
    """Print the figures."""
    parts = {
        "grant": found.grant,
        "revocation": found.revocation,
        "revocation by sidecars alone": found.alone,
    }
    for name, change in parts.items():
        console.print(f"{name}: {said(change)}", highlight=False)
    for sentence in found.surprises:
        console.print(f"[red]{escape(sentence)}")


def said(change: Change) -> str:
    """A change in half a sentence."""
    when = "never for all" if change.last is None else f"for all {change.last:.1f} s after its end"
    return (
        f"`pulumi up` took {change.up:.1f} s; in force {when}; of others {len(change.cut)} "
        f"connections were cut, {len(change.failed)} failed"
    )
