"""``zt lab``: Kubernetes clusters on one machine."""

from __future__ import annotations

import json
import time
from pathlib import Path

import click
from rich.console import Console

from lab.cluster import controlplane
from lab.cluster.model import LabError
from lab.cluster.status import plane_json, show_status, status_json
from lab.cluster.status import status as status_of
from lab.commands import FAILED, as_json_option, one_sentence
from lab.mesh.policies import read
from lab.scan.commands import scan
from zt.model import Cluster
from zt.nearest import did_you_mean

_state = click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(".zt/lab"),
    show_default=True,
    help="Folder of the running lab: kubeconfigs, keys, data, logs.",
)


@click.group()
def lab() -> None:
    """Run real Kubernetes control planes on this machine; needs Linux, root and Go.

    \b
    Examples:
      zt lab up --control-plane     etcd, API server and controllers of every cluster
      zt lab status                 what runs, and where the kubeconfigs are
      kubectl --kubeconfig .zt/lab/hanzo-k8s/kubeconfig get namespaces
      zt lab down                   stop and clean up
    """  # noqa: D301 - \b keeps click from joining the lines


@lab.command()
@click.option(
    "--control-plane",
    is_flag=True,
    required=True,
    help="Control planes alone, without nodes: what can be had so far.",
)
@click.option(
    "--cluster", "names", multiple=True, help="This cluster alone; may be given several times."
)
@_state
@click.option(
    "--policies",
    type=click.Path(path_type=Path, exists=True),
    default=Path("policies"),
    show_default=True,
    help="The policies whose clusters to start.",
)
@as_json_option
@one_sentence
def up(
    *, control_plane: bool, names: tuple[str, ...], state: Path, policies: Path, as_json: bool
) -> None:
    """Start etcd, API server and controllers of every cluster; they go on in the background.

    \b
    The first time builds the programs, which takes minutes. Examples:
      zt lab up --control-plane
      zt lab up --control-plane --cluster lux-k8s --state /tmp/lux
    """  # noqa: D301
    del control_plane  # required: there is nothing else yet
    started, console = time.monotonic(), Console(stderr=as_json)

    def report(step: str) -> None:
        console.print(f"[dim]{time.monotonic() - started:5.1f} s[/dim]  {step}", highlight=False)

    planes = controlplane.up(state, _chosen(read(policies).mesh.clusters, names), report)
    if as_json:
        click.echo(json.dumps([plane_json(plane) for plane in planes]))
    for plane in planes:
        console.print(f"{plane.name}: {plane.kubeconfig}", soft_wrap=True, highlight=False)
    console.print(f"up in {time.monotonic() - started:.1f} s; stop it with `zt lab down`")


@lab.command()
@_state
@as_json_option
@one_sentence
def status(*, state: Path, as_json: bool) -> None:
    """Show control planes, whether they answer, and what their processes take.

    \b
    Exit code 1 if a process has died or an API server does not answer.
      zt lab status --json
    """  # noqa: D301
    seen = status_of(state)
    if as_json:
        click.echo(json.dumps(status_json(seen)))
    else:
        show_status(Console(), seen)
    if not seen.is_well:
        raise SystemExit(FAILED)


@lab.command()
@_state
@as_json_option
@one_sentence
def down(*, state: Path, as_json: bool) -> None:
    """Stop all control planes and remove what they left; works also after a crash.

    \b
      zt lab down
      zt lab down --state /tmp/lux
    """  # noqa: D301
    was_running = controlplane.down(state)
    if as_json:
        click.echo(json.dumps({"was_running": was_running}))
    else:
        click.echo("stopped" if was_running else f"no lab is running in {state}")


lab.add_command(scan)


def _chosen(clusters: tuple[Cluster, ...], names: tuple[str, ...]) -> tuple[Cluster, ...]:
    known = {cluster.name: cluster for cluster in clusters}
    for name in names:
        if name not in known:
            raise LabError(f"the policies have no cluster {name!r}{did_you_mean(name, known)}")
    return tuple(cluster for cluster in clusters if not names or cluster.name in names)
