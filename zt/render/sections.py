"""A difference as tables of text, which Markdown and the terminal only set differently."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from zt.diff import AgentRight, Change, Diff, Moved, OperatorRight, PhaseChange, Reach, RoleHolder
from zt.model import Method, Phase
from zt.render.names import short_names


@dataclass(frozen=True, slots=True)
class Section:
    """A table; ``sign`` says whether its rows are more than before, less, or otherwise."""

    title: str
    sign: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def summary(diff: Diff) -> str:
    """One sentence."""
    counts = (
        (len(diff.gained), "newly reachable"),
        (len(diff.lost), "no longer reachable"),
        (sum(phase.refuses_more for phase in diff.phases), "services enforced further"),
        (sum(not phase.refuses_more for phase in diff.phases), "services enforced less"),
        (len(diff.rights_gained), "rights gained"),
        (len(diff.rights_lost), "rights lost"),
        (sum(change.access for change in diff.changes), "fields that change who is meant"),
    )
    told = ", ".join(f"{count} {what}" for count, what in counts if count)
    return f"{told}." if told else "Nobody reaches or may do more than before, or less."


def sections(diff: Diff) -> Iterator[Section]:
    """The tables that have rows, the weightiest first."""
    names = short_names(_ids(diff))
    reach = ("source", "destination", "port", "rule", "at", "note")
    candidates = (
        Section("Newly reachable", "+", reach, tuple(_reach(r, names) for r in diff.gained)),
        Section("No longer reachable", "-", reach, tuple(_reach(r, names) for r in diff.lost)),
        Section(
            "Enforcement",
            "~",
            ("service", "before", "now", "meaning"),
            tuple(_phase(phase, names) for phase in diff.phases),
        ),
        Section("Rights gained", "+", _RIGHT, tuple(map(_right, diff.rights_gained))),
        Section("Rights lost", "-", _RIGHT, tuple(map(_right, diff.rights_lost))),
        Section("Who is meant", "~", _FIELD, tuple(_changes(diff.changes, names, access=True))),
        Section("Added", "+", ("party",), tuple((party,) for party in diff.added)),
        Section("Removed", "-", ("party",), tuple((party,) for party in diff.removed)),
        Section("Other fields", "~", _FIELD, tuple(_changes(diff.changes, names, access=False))),
        Section("Moved: the same, by another rule", "=", _MOVED, tuple(_moved(diff.moved, names))),
    )
    return (section for section in candidates if section.rows)


_RIGHT = ("who", "may", "if", "by")
_FIELD = ("what", "field", "before", "now")
_MOVED = ("before", "now", "connections")


def _ids(diff: Diff) -> Iterator[str]:
    for reach in (*diff.gained, *diff.lost, *(moved.reach for moved in diff.moved)):
        yield from (reach.source, reach.destination)
    for phase in diff.phases:
        yield from (phase.service, *phase.granted)


def _reach(reach: Reach, names: dict[str, str]) -> tuple[str, ...]:
    notes = ["across clusters"] if reach.crosses else []
    if reach.phase is Phase.OBSERVE:
        notes.append("observed: refuses nothing yet")
    elif reach.phase is Phase.CANARY:
        notes.append("enforced on one replica")
    ends = names[reach.source], names[reach.destination]
    return *ends, str(reach.port), reach.rule, str(reach.where), ", ".join(notes)


def _phase(change: PhaseChange, names: dict[str, str]) -> tuple[str, ...]:
    granted = ", ".join(names[party] for party in change.granted)
    refuses = f"refuses all but {granted}" if granted else "refuses everyone"
    meaning = {
        Phase.OBSERVE: f"lets everyone pass and records it; granted: {granted or 'nobody'}",
        Phase.CANARY: f"{refuses} on one replica, and records it on the others",
        Phase.ENFORCE: refuses,
    }
    return names[change.service], change.old, change.new, meaning[change.new]


def _right(right: OperatorRight | RoleHolder | AgentRight) -> tuple[str, ...]:
    if isinstance(right, OperatorRight):
        allowed = f"{right.action} on {right.service}"
        return f"role {right.role}", allowed, " and ".join(right.conditions), right.rule
    if isinstance(right, RoleHolder):
        return right.holder, f"hold role {right.role}", "", right.binding
    methods = "any method" if set(right.methods) == set(Method) else ", ".join(right.methods)
    allowed = f"call {right.service}:{right.port}{right.path} with {methods}"
    return f"agent {right.client_id}", allowed, "", right.policy


def _changes(
    changes: Iterable[Change], names: dict[str, str], *, access: bool
) -> Iterator[tuple[str, ...]]:
    for change in changes:
        if change.access is access:
            subject = names.get(change.subject, change.subject)
            yield subject, change.field, change.old or "none", change.new or "none"


def _moved(moved: Iterable[Moved], names: dict[str, str]) -> Iterator[tuple[str, ...]]:
    by_rules: dict[tuple[str, str], list[Reach]] = defaultdict(list)
    for item in moved:
        by_rules[item.old_rule, item.reach.rule].append(item.reach)
    for (old, new), reaches in by_rules.items():
        told = (f"{names[r.source]} -> {names[r.destination]}:{r.port}" for r in reaches)
        yield old, new, ", ".join(told)
