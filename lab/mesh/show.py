"""What the commands print: tables for people, JSON for programs."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lab.check.groups import named
from lab.mesh.addresses import key
from lab.mesh.attacks import Result
from lab.mesh.model import Mesh
from lab.mesh.status import Process, Status
from lab.mesh.trail import Entry
from lab.mesh.verify import Outcome, Verification, identity_of
from zt.model import ExternalService

_GOOD, _BAD = "[green]", "[red]"


def held(verification: Verification, attacks: tuple[Result, ...]) -> bool:
    """Whether everything is as the policy says."""
    return not verification.mismatches and all(attack.held for attack in attacks)


def verification_json(
    mesh: Mesh, verification: Verification, attacks: tuple[Result, ...]
) -> dict[str, Any]:
    """The result of ``verify`` for programs."""
    surprises = [item for item in verification.outcomes if item.surprise]
    return {
        "attempts": len(verification.outcomes),
        "allowed": verification.allowed,
        "refused": len(verification.outcomes) - verification.allowed,
        "mismatches": verification.mismatches,
        "records": verification.records,
        "surprises": [{**_edge(mesh, item), "what": item.surprise} for item in surprises],
        "missing": _entries(verification.missing),
        "unexpected": _entries(verification.unexpected),
        "attacks": [
            {
                "name": attack.name,
                "tried": attack.tried,
                "refused": attack.refused,
                "recorded": attack.recorded,
                "without_identity": attack.nameless,
                "surprises": list(attack.surprises),
            }
            for attack in attacks
        ],
    }


def _edge(mesh: Mesh, outcome: Outcome) -> dict[str, Any]:
    attempt = outcome.attempt
    return {
        "source": identity_of(mesh, attempt.source),
        "destination": identity_of(mesh, attempt.destination),
        "port": attempt.port,
    }


def _entries(entries: Counter[Entry]) -> list[dict[str, Any]]:
    return [{**entry._asdict(), "count": count} for entry, count in sorted_entries(entries)]


def sorted_entries(entries: Counter[Entry]) -> list[tuple[Entry, int]]:
    """Entries in an order that is always the same; a source may be ``None``."""
    return sorted(entries.items(), key=lambda item: tuple(map(str, item[0])))


def show_verification(
    console: Console, mesh: Mesh, verification: Verification, attacks: tuple[Result, ...]
) -> None:
    """Print who reached whom, what surprised, and how attacks ended."""
    console.print(_calls(mesh, verification))
    for outcome in verification.outcomes:
        if outcome.surprise:
            edge = _edge(mesh, outcome)
            text = f"{edge['source']} -> {edge['destination']}:{edge['port']}: {outcome.surprise}"
            console.print(f"{_BAD}{escape(text)}")
    for what, entries in (("no", verification.missing), ("an odd", verification.unexpected)):
        for entry, count in sorted_entries(entries):
            console.print(f"{_BAD}{count} x {what} record of {escape(str(tuple(entry)))}")
    console.print(_attacks(attacks))
    refused = len(verification.outcomes) - verification.allowed
    colour = _BAD if verification.mismatches else _GOOD
    console.print(
        f"{colour}{len(verification.outcomes)} attempts: {verification.allowed} allowed, "
        f"{refused} refused, {verification.mismatches} mismatches; "
        f"{verification.records} records in the audit trail"
    )


def _calls(mesh: Mesh, verification: Verification) -> Table:
    table = Table("destination", "port", "phase", "allowed", "refused", "odd", box=box.SIMPLE)
    table.columns[0].overflow = "fold"
    rows: dict[tuple[str, int, str], list[Outcome]] = defaultdict(list)
    for outcome in verification.outcomes:
        attempt = outcome.attempt
        rows[key(attempt.destination), attempt.port, attempt.phase].append(outcome)
    for (destination, port, phase), outcomes in sorted(rows.items()):
        passed = [_name(item) for item in outcomes if item.passed]
        surprises = sum(item.surprise is not None for item in outcomes)
        table.add_row(
            destination,
            str(port),
            phase,
            ", ".join(passed) if len(passed) <= len(mesh.services) // 2 else f"all {len(passed)}",
            str(len(outcomes) - len(passed)),
            f"{_BAD}{surprises}" if surprises else "",
        )
    return table


def _name(outcome: Outcome) -> str:
    """The source as seen from the destination: with its cluster where that is another."""
    source, destination = outcome.attempt.source, outcome.attempt.destination
    if isinstance(source, ExternalService) or source.cluster == destination.cluster:
        return source.name
    return key(source)


def _attacks(attacks: tuple[Result, ...]) -> Table:
    table = Table("attack", "tried", "refused", "recorded", "without ID", box=box.SIMPLE)
    if not any(item.tried for item in attacks):
        table.title = "no attack was tried: nothing is enforced at this step"
    for item in attacks:
        numbers = (item.tried, item.refused, item.recorded, item.nameless)
        style = None if item.held else "red"
        table.add_row(item.name, *map(str, numbers), style=style)
    return table


def status_json(status: Status) -> dict[str, Any]:
    """A status for programs."""
    return {
        "well": status.is_well,
        "decisions_per_second": round(status.decisions, 1),
        "processes": list(map(process_json, status.processes)),
        "sidecars": [
            {
                "service": item.service,
                "seconds_left": round(item.left, 1),
                "tls_groups": dict(item.groups),
            }
            for item in status.sidecars
        ],
    }


def process_json(process: Process) -> dict[str, Any]:
    """A process for programs."""
    return {
        "name": process.name,
        "pid": process.pid,
        "alive": process.memory is not None,
        "memory_mib": process.memory,
        "uptime_seconds": None if process.uptime is None else round(process.uptime, 1),
    }


def process_table(processes: Iterable[Process]) -> Table:
    """Processes for people."""
    table = Table("process", "PID", "memory", "up", box=box.SIMPLE)
    for item in processes:
        if item.memory is None or item.uptime is None:
            table.add_row(item.name, str(item.pid), "dead", "", style="red")
        else:
            table.add_row(item.name, str(item.pid), f"{item.memory} MiB", f"{item.uptime:.0f} s")
    return table


def show_status(console: Console, status: Status) -> None:
    """Print a status."""
    sidecars = Table("sidecar of", "certificate has left", "TLS groups", box=box.SIMPLE)
    for sidecar in status.sidecars:
        sidecars.add_row(sidecar.service, f"{sidecar.left:.0f} s", named(sidecar.groups))
    console.print(process_table(status.processes), sidecars)
    console.print(f"{status.decisions:.1f} decisions a second")
