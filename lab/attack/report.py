"""What became of the attacks: a table for people, JSON for programs, a page of the docs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lab.attack.layers import REMOVALS
from lab.attack.model import RECORDED, Family, Json, Layer, Result
from lab.attack.run import Attacked

_NOTHING = "nothing"
_MEANING = {
    Layer.ADMISSION: "the API server refused the object, or made it harmless",
    Layer.NETWORK_POLICY: "no packet came to the destination's pod",
    Layer.HANDSHAKE: "the destination's sidecar, while TLS was made",
    Layer.LISTENER: "the destination's sidecar, which has no chain for such a peer",
    Layer.EVALUATOR: "the evaluator, asked by the destination's sidecar",
    Layer.RBAC: "the list in the destination's sidecar, behind the evaluator",
    Layer.ROUTE: "the sidecar's own listener, which has no such page",
    Layer.GATEWAY: "the Envoy of the gateway, which has no route by that name",
    Layer.NOBODY: "the packet came, and nothing listens there",
    Layer.APPLICATION: "the application, which was reached and did not understand",
    Layer.ATTESTATION: "SPIRE's agent, which knows no registration of who asked",
    Layer.KERNEL: "the kernel: it is not there for who asked",
}
_HEAD = """\
# The lab, attacked

Written by `zt lab attack --docs`; what it says was measured, not planned. Each attack is made
against every port that a sidecar holds, in every cluster of the lab, by pods that the program makes
and from those of the services. How to run it is in [lab.md](lab.md).

{attempts} attempts in {seconds:.0f} s, {mismatches} mismatches. A mismatch is an attempt that got
in though a layer stood in its way, one that another layer stopped than should have, one that the
audit trail has no record of or several, and a target that did not answer before and after.
"""
_LAYERS_HEAD = """\
## Which layer is which

| layer | what stopped the attempt |
|---|---|
"""
_ATTACKS_HEAD = """\
## Each attack, the layer that stopped it, and its record

"No record" is as it should be where nothing of the mesh saw the attempt: a packet that was dropped,
an object that was refused, a file that is not there.

"""
_REMOVED_HEAD = """\
## With each layer taken away in turn

The same attacks against {targets}, while one layer is missing. In each column: which layer stopped
them instead. **got in** stands where the layer that was taken away is the only one; see below.

"""
_ALONE_HEAD = """\
## What one layer holds alone

These got in while the layer was away: no second one is in their way.
"""


@dataclass(frozen=True, slots=True)
class Row:
    """An attack, over all its targets, while the same was taken away."""

    family: Family
    name: str
    removed: str
    results: tuple[Result, ...]

    @property
    def stopped(self) -> int:
        """How many failed."""
        return sum(result.stopped for result in self.results)

    @property
    def layers(self) -> Counter[str]:
        """What stopped them, and how often."""
        return Counter(result.layer or _NOTHING for result in self.results)

    @property
    def records(self) -> Counter[str]:
        """What the trail says of them."""
        return Counter(_record(result) for result in self.results)

    @property
    def surprises(self) -> tuple[str, ...]:
        """What is not as it should be."""
        return tuple(
            f"{result.attempt.target}: {result.surprise}"
            for result in self.results
            if result.surprise
        )


def rows(results: Iterable[Result]) -> tuple[Row, ...]:
    """Results by what had been taken away, and by attack, in the order in which they were made."""
    groups: dict[tuple[str, Family, str], list[Result]] = {}
    for result in results:
        attack = result.attempt.attack
        groups.setdefault((result.removed, attack.family, attack.name), []).append(result)
    return tuple(
        Row(family, name, removed, tuple(found))
        for (removed, family, name), found in groups.items()
    )


def _record(result: Result) -> str:
    """What the trail has of an attempt, without names."""
    if not result.denials:
        return "no record"
    record = result.denials[0]
    who = "names the source" if record.source_id else "no source"
    return f"{record.verdict}, {record.layer}, {record.reason}, {who}"


def _counted(found: Counter[str]) -> str:
    """One thing by its name, several with how often each was."""
    if len(found) == 1:
        return next(iter(found))
    return "; ".join(f"{name} ({count})" for name, count in sorted(found.items()))


# --- For programs ---------------------------------------------------------------------------------


def attacked_json(attacked: Attacked) -> Json:
    """What became of the attacks, for programs."""
    return {
        "mismatches": attacked.mismatches,
        "attempts": len(attacked.results),
        "stopped": sum(result.stopped for result in attacked.results),
        "recorded": sum(bool(result.denials) for result in attacked.results),
        "seconds": round(attacked.seconds, 1),
        "clusters": [
            {
                "name": item.name,
                "targets": list(item.targets),
                "dead": list(item.dead),
                "refusals": item.refusals,
                "unexplained": item.unexplained,
                "problems": list(item.problems),
            }
            for item in attacked.clusters
        ],
        "attacks": [_row_json(row) for row in rows(attacked.results)],
    }


def _row_json(row: Row) -> Json:
    return {
        "family": row.family,
        "attack": row.name,
        "without": row.removed or None,
        "tried": len(row.results),
        "stopped": row.stopped,
        "layers": dict(row.layers),
        "records": dict(row.records),
        "surprises": list(row.surprises),
    }


# --- For people -----------------------------------------------------------------------------------


def show(console: Console, attacked: Attacked) -> None:
    """Print what became of the attacks."""
    table = Table("family", "attack", "tried", "stopped by", "audit trail", box=box.SIMPLE)
    before = ""
    for row in rows(attacked.results):
        if row.removed != before:
            table.add_section()
            table.add_row("", f"[bold]while {escape(row.removed)}", "", "", "")
            before = row.removed
        table.add_row(
            row.family,
            escape(row.name),
            str(len(row.results)),
            escape(_counted(row.layers)),
            escape(_counted(row.records)),
            style="red" if row.surprises else None,
        )
    console.print(table)
    for line in _problems(attacked):
        console.print(f"[red]{escape(line)}")
    colour = "[red]" if attacked.mismatches else "[green]"
    stopped = sum(result.stopped for result in attacked.results)
    console.print(
        f"{colour}{len(attacked.results)} attempts, {stopped} stopped, "
        f"{attacked.mismatches} mismatches, {attacked.seconds:.0f} s"
    )


def _problems(attacked: Attacked) -> Iterator[str]:
    for cluster in attacked.clusters:
        for name in cluster.dead:
            yield f"{cluster.name}: {name} does not answer on its own loopback"
        yield from (f"{cluster.name}: {problem}" for problem in cluster.problems)
        if cluster.unexplained:
            yield f"{cluster.name}: {cluster.unexplained} refusals in the trail are of no attempt"
    for row in rows(attacked.results):
        for surprise in row.surprises:
            while_ = f", while {row.removed}" if row.removed else ""
            yield f"{row.name}{while_}: {surprise}"


# --- For the docs ---------------------------------------------------------------------------------


def page(attacked: Attacked) -> str:
    """The page of the docs."""
    found = rows(attacked.results)
    head = _HEAD.format(
        attempts=len(attacked.results), seconds=attacked.seconds, mismatches=attacked.mismatches
    )
    sections = [head, *_attacks(found), *_removed(found), *_alone(found), *_layers(found)]
    return "\n".join(sections)


def _attacks(found: Sequence[Row]) -> Iterator[str]:
    lines = [_ATTACKS_HEAD]
    for family in Family:
        lines.append(f"### By {family}\n")
        lines.append("| attack | tried | stopped by | in the audit trail |\n|---|---|---|---|")
        lines += [
            f"| {row.name} | {len(row.results)} | {_cell(row)} | {_counted(row.records)} |"
            for row in found
            if row.family is family and not row.removed
        ]
        lines.append("")
    yield "\n".join(lines)


def _cell(row: Row) -> str:
    got_in = len(row.results) - row.stopped
    if not got_in:
        return _counted(row.layers)
    return "**got in**" if not row.stopped else f"**got in ({got_in})**; {_counted(row.layers)}"


def _removed(found: Sequence[Row]) -> Iterator[str]:
    """A column for each removal, a row for each attack."""
    names = [removal.name for removal in REMOVALS if any(r.removed == removal.name for r in found)]
    if not names:
        return
    cells = {(row.name, row.removed): _cell(row) for row in found if row.removed}
    attacks = list(dict.fromkeys(name for name, _ in cells))
    targets = dict.fromkeys(
        result.attempt.target for row in found if row.removed for result in row.results
    )
    lines = [_REMOVED_HEAD.format(targets=", ".join(targets))]
    lines.append(f"| attack | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
    lines += [
        f"| {attack} | {' | '.join(cells.get((attack, name), '') for name in names)} |"
        for attack in attacks
    ]
    yield "\n".join([*lines, ""])


def _alone(found: Sequence[Row]) -> Iterator[str]:
    """Attacks that got in, since what was taken away is all that holds them."""
    lines = [_ALONE_HEAD]
    for removal in REMOVALS:
        names = [
            f"- {row.name}"
            for row in found
            if row.removed == removal.name and row.stopped < len(row.results)
        ]
        if names and removal.alone:
            lines += [f"While {removal.name}:\n", *names, "", removal.alone, ""]
    if len(lines) > 1:
        yield "\n".join(lines)


def _layers(found: Sequence[Row]) -> Iterator[str]:
    seen = {layer for row in found for layer in row.layers}
    lines = [
        f"| {layer} | {meaning}{_kept(layer)} |"
        for layer, meaning in _MEANING.items()
        if layer in seen
    ]
    yield "\n".join([_LAYERS_HEAD.rstrip(), *lines, ""])


def _kept(layer: Layer) -> str:
    return "; recorded" if layer in RECORDED else ""
