"""``zt lab faults``, ``rotate`` and ``change``: what happens to traffic, and to what passes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path

import click
from rich.console import Console

from lab.cluster.controlplane import running
from lab.cluster.model import LabError, Layout
from lab.commands import FAILED, alone, as_json_option, one_sentence, state_option, teller
from lab.faults import change as changes
from lab.faults import granting, rotation
from lab.faults.kinds import KINDS, Kind
from lab.faults.report import Outcome, show
from lab.faults.report import as_json as report_json
from lab.faults.report import page as report_page
from lab.faults.run import Recorded, run
from lab.faults.site import Site
from lab.faults.tally import Edge
from lab.verify.trail import Trail, trail_of
from zt.decide import Verdict
from zt.nearest import did_you_mean

_CLUSTER = "hanzo-k8s"

cluster_option = click.option(
    "--cluster", default=_CLUSTER, show_default=True, help="The cluster to do it in."
)


@click.command()
@state_option
@cluster_option
@click.option("--short", is_flag=True, help="Only faults that are over within seconds.")
@click.option(
    "--only", "names", multiple=True, help="This fault alone; may be given several times."
)
@click.option(
    "--page",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the report into this file as well, in Markdown.",
)
@as_json_option
@one_sentence
def faults(  # noqa: PLR0913 - an option each
    *,
    state: Path,
    cluster: str,
    short: bool,
    names: tuple[str, ...],
    page: Path | None,
    as_json: bool,
) -> None:
    """Kill parts of the lab, one after the other, under traffic; see what fails and what passes.

    \b
    Nothing else should break meanwhile. Exit code 1 on any surprise. Examples:
      zt lab faults
      zt lab faults --short --json
      zt lab faults --only evaluators --only node
    """  # noqa: D301
    site, say = site_of(state, cluster), teller(as_json=as_json)
    outcomes: list[Outcome] = []
    with alone(site.layout.policies, say), trail(site) as recorded:
        for kind in _chosen(names, short=short):
            with _survived(kind, say):
                outcomes.append(run(site, kind, recorded, say))
    found = report_json(outcomes, wanted=len(_chosen(names, short=short)))
    if as_json:
        click.echo(json.dumps(found))
    else:
        show(Console(), outcomes)
    if page is not None:
        page.write_text(report_page(outcomes, cluster), encoding="utf-8")
    if not found["held"]:
        raise SystemExit(FAILED)


@click.command()
@state_option
@cluster_option
@click.option(
    "--minutes", type=click.FloatRange(min=0.1), default=15.0, show_default=True, help="How long."
)
@as_json_option
@one_sentence
def rotate(*, state: Path, cluster: str, minutes: float, as_json: bool) -> None:
    """Keep traffic up while certificates rotate; the lab should be up with `--short-lived`.

    \b
    Exit code 1 if any connection failed. Examples:
      zt lab rotate
      zt lab rotate --minutes 3 --json
    """  # noqa: D301
    site, say = site_of(state, cluster), teller(as_json=as_json)
    with alone(site.layout.policies, say):
        found = rotation.run(site, minutes, say)
    if as_json:
        click.echo(json.dumps(rotation.as_json(found)))
    else:
        rotation.show(Console(), found)
    if found.surprises:
        raise SystemExit(FAILED)


@click.command()
@state_option
@cluster_option
@as_json_option
@one_sentence
def change(*, state: Path, cluster: str, as_json: bool) -> None:
    """Grant calls and revoke them again, by `pulumi up`, under traffic; measure how fast it goes.

    \b
    Exit code 1 if it takes longer than the documentation says, or cuts what it should not. Example:
      zt lab change --json
    """  # noqa: D301
    site, say = site_of(state, cluster), teller(as_json=as_json)
    with alone(site.layout.policies, say):
        found = granting.run(site, say)
    if as_json:
        click.echo(json.dumps(changes.as_json(found)))
    else:
        changes.show(Console(), found)
    if found.surprises:
        raise SystemExit(FAILED)


@contextmanager
def _survived(kind: Kind, say: Callable[[str], None]) -> Iterator[None]:
    """What could not be tried is said, and what comes after it is tried all the same."""
    try:
        yield
    except (LabError, OSError) as error:
        say(f"{kind.title}: could not be tried: {error}")


def site_of(state: Path, cluster: str) -> Site:
    """A cluster of the lab that runs in a folder.

    Raises:
        LabError: if none does, or it has no such cluster.
    """
    known = {plane.name for plane in running(state)}
    if cluster not in known:
        raise LabError(f"the lab has no cluster {cluster!r}{did_you_mean(cluster, known)}")
    return Site(Layout(state.absolute()), cluster)


@contextmanager
def trail(site: Site) -> Iterator[Recorded]:
    """A reader of the cluster's audit trail."""
    with closing(trail_of(site.api, site.effective.policy, site.cluster)) as found:
        yield lambda since: _allowed(found, since)


def _allowed(found: Trail, since: datetime) -> Counter[Edge]:
    return Counter(
        Edge(item.source_id or "", item.destination_id, item.destination_port)
        for item in found.since(since)
        if item.verdict == Verdict.ALLOW
    )


def _chosen(names: tuple[str, ...], *, short: bool) -> tuple[Kind, ...]:
    known = {kind.name: kind for kind in KINDS}
    for name in names:
        if name not in known:
            raise LabError(f"there is no fault {name!r}{did_you_mean(name, known)}")
    if names:
        return tuple(known[name] for name in names)
    return tuple(kind for kind in KINDS if kind.short or not short)
