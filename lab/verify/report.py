"""What ``zt lab verify`` says: tables for people, JSON for programs, a page for the docs."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lab.check.model import Check
from lab.verify.attempt import Attempt, Expected, Layer, Way
from lab.verify.verify import Outcome, Verification
from zt.decide import Verdict

Json = dict[str, Any]

_GOOD, _BAD = "[green]", "[red]"


@dataclass(frozen=True, slots=True)
class Report:
    """All clusters, and what was checked besides the connections."""

    clusters: tuple[Verification, ...]
    checks: tuple[Check, ...]

    @property
    def mismatches(self) -> int:
        """All that is not as it should be."""
        broken = sum(not check.held for check in self.checks)
        return broken + sum(cluster.mismatches for cluster in self.clusters)


@dataclass(frozen=True, slots=True)
class Row:
    """How attempts of one kind ended; ``records`` is how many they should have left."""

    layer: Layer
    way: Way
    tried: int
    passed: int
    surprises: int
    records: int


def rows(verification: Verification) -> Iterator[Row]:
    """What was tried by way and first layer, in the order of these."""
    grouped: dict[tuple[Layer, Way], list[Outcome]] = defaultdict(list)
    for outcome in verification.outcomes:
        grouped[outcome.attempt.layer, outcome.attempt.way].append(outcome)
    for layer in Layer:
        for way in Way:
            if found := grouped.get((layer, way)):
                yield Row(
                    layer,
                    way,
                    tried=len(found),
                    passed=sum(item.passed for item in found),
                    surprises=sum(item.surprise is not None for item in found),
                    records=sum(i.attempt.expected(i.origin) is not None for i in found),
                )


# --- JSON -----------------------------------------------------------------------------------------


def as_json(report: Report) -> Json:
    """For programs."""
    return {
        "mismatches": report.mismatches,
        "clusters": [_cluster_json(item) for item in report.clusters],
        "checks": [asdict(check) for check in report.checks],
    }


def _cluster_json(item: Verification) -> Json:
    passed = sum(outcome.passed for outcome in item.outcomes)
    odd = [outcome for outcome in item.outcomes if outcome.surprise]
    return {
        "cluster": item.cluster,
        "seconds": round(item.seconds, 1),
        "attempts": len(item.outcomes),
        "passed": passed,
        "refused": len(item.outcomes) - passed,
        "waiting_for_the_tunnel": len(item.waiting),
        "records": item.records,
        "mismatches": item.mismatches,
        "layers": [asdict(row) for row in rows(item)],
        "surprises": [{**_edge(i.attempt), "what": i.surprise, "answer": i.answer} for i in odd],
        "missing": _records_json(item.missing),
        "unexpected": _records_json(item.unexpected),
    }


def _edge(attempt: Attempt) -> Json:
    return {
        "source": attempt.source.spiffe,
        "destination": attempt.destination.spiffe,
        "port": attempt.port.port,
        "way": attempt.way,
        "host": attempt.host,
    }


def _records_json(records: Counter[Expected]) -> list[Json]:
    return [
        {**record.entry._asdict(), **record.origin._asdict(), "count": count}
        for record, count in _sorted(records)
    ]


def _sorted(records: Counter[Expected]) -> list[tuple[Expected, int]]:
    """In an order that is always the same; parts may be ``None``."""
    return sorted(records.items(), key=lambda item: str(item[0]))


# --- For people -----------------------------------------------------------------------------------


def show(console: Console, report: Report) -> None:
    """Print what was tried, what surprised, and what was checked."""
    for item in report.clusters:
        console.print(_table(item))
        for line in odd(item):
            console.print(f"{_BAD}{escape(line)}", soft_wrap=True)
    if report.checks:
        console.print(_checks(report.checks))
    for check in report.checks:
        if not check.held:
            line = f"{check.name}: {check.subject}: {check.detail}"
            console.print(f"{_BAD}{escape(line)}", soft_wrap=True)
    colour = _BAD if report.mismatches else _GOOD
    attempts = sum(len(item.outcomes) for item in report.clusters)
    records = sum(item.records for item in report.clusters)
    waiting = sum(len(item.waiting) for item in report.clusters)
    console.print(
        f"{colour}{attempts} attempts, {records} records, {len(report.checks)} checks: "
        f"{report.mismatches} mismatches[/]; {waiting} attempts wait for the tunnel"
    )


def _table(item: Verification) -> Table:
    table = Table("first layer", "dialled by", "tried", "passed", "odd", "records", box=box.SIMPLE)
    table.title = f"{item.cluster}, {item.seconds:.0f} s"
    for row in rows(item):
        figures = (row.tried, row.passed, row.surprises, row.records)
        style = "red" if row.surprises else None
        table.add_row(row.layer, row.way, *map(str, figures), style=style)
    table.add_row(Layer.TUNNEL, "", str(len(item.waiting)), style="dim")
    return table


def odd(item: Verification) -> Iterator[str]:
    """A line for each surprise, and for each record that is missing or unexpected."""
    for outcome in item.outcomes:
        if outcome.surprise:
            yield f"{_arrow(outcome.attempt)} ({outcome.attempt.way}): {outcome.surprise}"
    for what, records in (("no", item.missing), ("an odd", item.unexpected)):
        for record, count in _sorted(records):
            entry, origin = record
            yield f"{count} x {what} record of {tuple(entry)} from {tuple(origin)}"


def _arrow(attempt: Attempt) -> str:
    return f"{attempt.source.spiffe} -> {attempt.destination.spiffe}:{attempt.port.port}"


def _checks(checks: Sequence[Check]) -> Table:
    table = Table("promise", "checked", "held", box=box.SIMPLE)
    for name in dict.fromkeys(check.name for check in checks):
        found = [check for check in checks if check.name == name]
        held = sum(check.held for check in found)
        style = None if held == len(found) else "red"
        table.add_row(name, str(len(found)), str(held), style=style)
    return table


# --- For the docs ---------------------------------------------------------------------------------


def page(report: Report) -> str:
    """The page ``docs/lab-verify.md``."""
    lines = [
        "# What `zt lab verify` saw",
        "",
        "Written by `zt lab verify --docs`; do not change it by hand. Every ordered pair of",
        "services on every declared port, dialled from a real pod as its application would, and",
        "where that is dropped on its way, with the source's own SVID from the node of the pod.",
        "Each attempt is compared with `decide`, and the audit trail with what each layer promises",
        "to leave there: the evaluator and the handshake one record an attempt, all others none.",
        "",
        f"**mismatches: {report.mismatches}**",
    ]
    for item in report.clusters:
        lines += ["", f"## {item.cluster}", "", *_layers(item), "", *_matrix(item), *_waiting(item)]
        if wrong := tuple(odd(item)):
            lines += ["", "What was odd:", "", *(f"- {line}" for line in wrong)]
    if report.checks:
        lines += ["", "## Besides", "", *_checks_page(report.checks)]
    broken = [check for check in report.checks if not check.held]
    if broken:
        lines += ["", *(f"- {check.name}: {check.subject}: {check.detail}" for check in broken)]
    return "\n".join(lines) + "\n"


def _layers(item: Verification) -> Iterator[str]:
    yield "| who has the first word | dialled by | tried | passed | odd | records |"
    yield "|---|---|---|---|---|---|"
    for row in rows(item):
        cells = (row.layer, row.way, row.tried, row.passed, row.surprises, row.records)
        yield f"| {' | '.join(map(str, cells))} |"
    yield f"| {Layer.TUNNEL} | not dialled | {len(item.waiting)} | | | |"


def _matrix(item: Verification) -> Iterator[str]:
    """Who reached whom, and by which rule."""
    passed: dict[str, dict[str, str]] = defaultdict(dict)
    for outcome in item.outcomes:
        if outcome.passed:
            attempt = outcome.attempt
            called = f"{attempt.destination.service.name}:{attempt.port.port}"
            passed[attempt.source.service.name][called] = attempt.decision.rule
    yield "| from | reaches, by which rule |"
    yield "|---|---|"
    for source in sorted({o.attempt.source.service.name for o in item.outcomes}):
        reached = passed.get(source, {}).items()
        cells = ", ".join(f"{called} ({rule})" for called, rule in sorted(reached))
        yield f"| {source} | {cells or 'nobody'} |"


def _waiting(item: Verification) -> Iterator[str]:
    """Allowed edges that lead to another cluster."""
    edges = {
        f"{attempt.source.service.name} to {attempt.destination.service.name}"
        f" of {attempt.destination.service.cluster}"
        for attempt in item.waiting
        if attempt.decision.verdict is Verdict.ALLOW
    }
    if edges:
        yield ""
        yield f"Waiting for the tunnel: {', '.join(sorted(edges))}."


def _checks_page(checks: Sequence[Check]) -> Iterator[str]:
    yield "| promise | checked | held |"
    yield "|---|---|---|"
    for name in dict.fromkeys(check.name for check in checks):
        found = [check for check in checks if check.name == name]
        yield f"| {name} | {len(found)} | {sum(check.held for check in found)} |"
