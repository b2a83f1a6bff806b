"""``zt lab ca``: a new root for a running lab."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape

from gateway.ca.ceremony import CeremonyError
from lab.ca.rotation import Cluster, Rotated, Rotation
from lab.check.model import site_of
from lab.cluster.model import LabError, Layout
from lab.commands import FAILED, alone, as_json_option, one_sentence, state_option, teller
from lab.faults.site import Site
from lab.verify.callers import Callers, callers
from lab.verify.site import Lab, lab_of


@click.command()
@state_option
@as_json_option
@one_sentence
def ca(*, state: Path, as_json: bool) -> None:
    """Carry a running lab to a new root and new issuing CAs while all services call each other.

    \b
    It takes as long as SVIDs live; use a lab whose certificates are short-lived. Exit code 1 if an
    allowed connection failed. Examples:
      zt lab up --short-lived
      zt lab ca
    """  # noqa: D301 - \b keeps click from joining the lines
    lab, say = lab_of(Layout(state.absolute())), teller(as_json=as_json)
    # The old root's key was thrown away when the lab came up; so is the new one's.
    with (
        alone(lab.layout.policies, say),
        callers() as found,
        tempfile.TemporaryDirectory(dir="/dev/shm") as folder,  # keys touch no disk
    ):
        clusters = tuple(_cluster(lab, name, found) for name in lab.clusters)
        try:
            rotated = Rotation(clusters, Path(folder), say).run()
        except CeremonyError as error:
            raise LabError(str(error)) from None
    if as_json:
        click.echo(json.dumps(report(rotated)))
    else:
        _show(Console(), rotated)
    if rotated.surprises:
        raise SystemExit(FAILED)


def _cluster(lab: Lab, name: str, found: Callers) -> Cluster:
    checked = partial(site_of, name, lab.policy, lab.api(name), lab.nodes, found)
    return Cluster(Site(lab.layout, name), checked)


def report(rotated: Rotated) -> dict[str, Any]:
    """For programs."""
    return {
        "held": not rotated.surprises,
        "stages": [asdict(stage) for stage in rotated.stages],
        **rotated.tally.counts,
        "surprises": list(rotated.surprises),
    }


def _show(console: Console, rotated: Rotated) -> None:
    for sentence in rotated.surprises:
        console.print(f"[red]{escape(sentence)}")
    seen, colour = rotated.tally, "[red]" if rotated.surprises else "[green]"
    console.print(
        f"{colour}a new root: {len(seen.failed)} of {seen.opened} new connections failed, "
        f"{len(seen.cut)} open ones ended in {seen.asked} questions; {seen.passed} of {seen.tried} "
        "that may not be passed"
    )
