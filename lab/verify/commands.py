"""``zt lab verify``: proves a running lab."""

from __future__ import annotations

import json
from pathlib import Path

import click
from rich.console import Console

from lab.cluster.model import LabError, Layout
from lab.commands import FAILED, alone, as_json_option, one_sentence, state_option, teller
from lab.verify.report import as_json as report_json
from lab.verify.report import page, show
from lab.verify.run import run
from lab.verify.site import lab_of
from zt.nearest import did_you_mean


@click.command()
@state_option
@click.option("--cluster", "names", multiple=True, help="This cluster alone; may be repeated.")
@click.option(
    "--docs",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write what was seen into this file as well, in Markdown.",
)
@as_json_option
@one_sentence
def verify(*, state: Path, names: tuple[str, ...], docs: Path | None, as_json: bool) -> None:
    """Call every service from every other, and compare with the policy and with the audit trail.

    \b
    Nothing else should call meanwhile. Exit code 1 on any mismatch. Examples:
      zt lab verify
      zt lab verify --json
      zt lab verify --docs docs/lab-verify.md
    """  # noqa: D301 - \b keeps click from joining the lines
    lab, say = lab_of(Layout(state.absolute())), teller(as_json=as_json)
    for name in names:
        if name not in lab.clusters:
            raise LabError(f"the lab has no cluster {name!r}{did_you_mean(name, lab.clusters)}")
    with alone(lab.layout.policies, say):
        report = run(lab, names or lab.clusters, say)
    if as_json:
        click.echo(json.dumps(report_json(report)))
    else:
        show(Console(), report)
    if docs is not None:
        docs.write_text(page(report), encoding="utf-8")
    if report.mismatches:
        raise SystemExit(FAILED)
