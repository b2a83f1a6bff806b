"""``zt lab ca``: a new root for a running lab."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import click
from rich.console import Console

from lab.ca import report
from lab.ca.ceremonies import Ceremonies, transcript_of
from lab.ca.clusters import Cluster, Clusters
from lab.ca.rotation import Rotation
from lab.check.model import site_of
from lab.cluster.model import Layout
from lab.commands import FAILED, alone, as_json_option, one_sentence, state_option, teller
from lab.faults.site import Site
from lab.kms.reach import near
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
    with alone(lab.layout.policies, say), callers() as found:
        clusters = Clusters(tuple(_cluster(lab, name, found) for name in lab.clusters))
        kms, transcript = near(lab.layout), transcript_of(lab.layout)
        rotated = Rotation(clusters, Ceremonies(kms, transcript, lab.policy.mesh, say), say).run()
    if as_json:
        click.echo(json.dumps(report.as_json(rotated)))
    else:
        report.show(Console(), rotated)
    if rotated.tally.surprises:
        raise SystemExit(FAILED)


def _cluster(lab: Lab, name: str, found: Callers) -> Cluster:
    checked = partial(site_of, name, lab.policy, lab.api(name), lab.nodes, found)
    return Cluster(Site(lab.layout, name), checked)
