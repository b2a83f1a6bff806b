"""``zt lab tunnel``: proves the tunnel of a running lab."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lab.check.model import Check
from lab.cluster.model import Layout
from lab.commands import FAILED, alone, as_json_option, one_sentence, state_option, teller
from lab.tunnel.run import PROOFS, prove
from lab.tunnel.site import Tunnels
from lab.verify.callers import callers
from lab.verify.site import lab_of


@click.command()
@state_option
@click.option("--only", multiple=True, type=click.Choice(list(PROOFS)), help="Just these proofs.")
@as_json_option
@one_sentence
def tunnel(*, state: Path, only: tuple[str, ...], as_json: bool) -> None:
    """Prove the tunnel between the clusters of a running lab.

    \b
    Declared edges cross it with their own identity and no other; nothing but WireGuard is on the
    Internet between them; keys rotate three times without a lost packet, and a gateway that is
    killed at a step goes on there; gateways that are killed, blocked or moved are back in ten
    seconds; keys are nowhere but in KMS. Exit code 1 if anything is not so. It takes twenty
    minutes. Examples:
      zt lab tunnel
      zt lab tunnel --only crossing --only wire --json
    """  # noqa: D301 - \b keeps click from joining the lines
    lab, say = lab_of(Layout(state.absolute())), teller(as_json=as_json)
    with alone(lab.layout.policies, say), callers() as found:
        checks = tuple(prove(Tunnels(lab, found, say), only))
    broken = [check for check in checks if not check.held]
    if as_json:
        click.echo(json.dumps(report(checks)))
    else:
        Console().print(table(checks))
    if broken:
        raise SystemExit(FAILED)


def report(checks: Sequence[Check]) -> dict[str, object]:
    """As JSON."""
    broken = sum(not check.held for check in checks)
    return {"mismatches": broken, "checks": [asdict(check) for check in checks]}


def table(checks: Sequence[Check]) -> Table:
    """For people."""
    made = Table("", "promise", "whose", "seen", box=box.SIMPLE)
    for check in checks:
        mark = "[green]held[/]" if check.held else "[red]broken[/]"
        made.add_row(mark, check.name, escape(check.subject), escape(check.detail))
    return made
