"""``zt lab attack``."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import click
from rich.console import Console

from lab.attack.report import attacked_json, page, show
from lab.attack.run import attack as attack_lab
from lab.commands import FAILED, as_json_option, one_sentence, state_option, teller


@click.command()
@state_option
@click.option(
    "--docs",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the page of the docs there as well, e.g. docs/lab-attack.md.",
)
@as_json_option
@one_sentence
def attack(*, state: Path, docs: Path | None, as_json: bool) -> None:
    """Attack the lab in every way that must fail, then again with each layer taken away in turn.

    \b
    What it makes or takes away is put back, also when it is interrupted; what was left by one that
    was killed is put back by the next. Exit code 1 on any surprise. Examples:
      zt lab attack
      zt lab attack --json | jq .mismatches
      zt lab attack --docs docs/lab-attack.md
    """  # noqa: D301 - \b keeps click from joining the lines
    # Whoever ends it by another signal gets the same cleaning up.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    attacked = attack_lab(state, teller(as_json=as_json))
    if as_json:
        click.echo(json.dumps(attacked_json(attacked)))
    else:
        show(Console(), attacked)
    if docs is not None:
        docs.write_text(page(attacked), encoding="utf-8")
    if attacked.mismatches:
        raise SystemExit(FAILED)
