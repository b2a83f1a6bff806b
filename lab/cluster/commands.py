"""``zt lab``: Kubernetes clusters on one machine."""

from __future__ import annotations

import json
import time
from pathlib import Path

import click
from rich.console import Console

from lab.attack.commands import attack
from lab.ca.commands import ca
from lab.cluster import controlplane
from lab.cluster.model import LabError
from lab.cluster.status import plane_json, show_status, status_json
from lab.cluster.status import status as status_of
from lab.commands import Shown, as_json_option, one_sentence, state_option, tell, teller
from lab.faults.commands import change, faults, rotate
from lab.mesh.policies import read
from lab.scan.commands import scan
from lab.tunnel.commands import tunnel
from lab.up.picture import show_pods, sidecars_json
from lab.up.run import Options, bring_up
from lab.verify.commands import verify
from zt.model import Cluster
from zt.nearest import did_you_mean


@click.group()
def lab() -> None:
    """Run real Kubernetes clusters with the mesh in them on this machine; needs Linux, root and Go.

    \b
    Examples:
      zt lab up                     clusters, nodes, the mesh, and the services of the policies
      zt lab up --control-plane     etcd, API server and controllers of every cluster alone
      zt lab status                 what runs, and where the kubeconfigs are
      kubectl --kubeconfig .zt/lab/hanzo-k8s/kubeconfig get namespaces
      zt lab down                   stop and clean up
    """  # noqa: D301 - \b keeps click from joining the lines


@lab.command()
@click.option(
    "--control-plane",
    is_flag=True,
    help="Control planes alone: no nodes, no pods, no mesh.",
)
@click.option(
    "--cluster",
    "names",
    multiple=True,
    help="This control plane alone; may be given several times.",
)
@click.option(
    "--short-lived",
    is_flag=True,
    help="Certificates live for minutes, so that rotations can be watched.",
)
@state_option
@click.option(
    "--policies",
    type=click.Path(path_type=Path, exists=True),
    default=Path("policies"),
    show_default=True,
    help="The policies whose clusters to start.",
)
@as_json_option
@one_sentence
def up(  # noqa: PLR0913 - an option each
    *,
    control_plane: bool,
    names: tuple[str, ...],
    short_lived: bool,
    state: Path,
    policies: Path,
    as_json: bool,
) -> None:
    """Start clusters, nodes, the mesh and the services of the policies; they go on by themselves.

    \b
    The first time builds the programs, which takes long. Examples:
      zt lab up
      zt lab up --short-lived
      zt lab up --control-plane --cluster lux-k8s --state /tmp/lux
    """  # noqa: D301
    if names and not control_plane:
        raise LabError("--cluster goes with --control-plane: a whole lab has all clusters")
    started, console, report = time.monotonic(), Console(stderr=as_json), teller(as_json=as_json)
    if control_plane:
        planes = controlplane.up(state, _chosen(read(policies).mesh.clusters, names), report)
    else:
        planes = bring_up(state, Options(policies, short=short_lived), report)
    if as_json:
        click.echo(json.dumps([plane_json(plane) for plane in planes]))
    elif not control_plane:
        show_pods(console, planes)
    for plane in planes:
        console.print(f"{plane.name}: {plane.kubeconfig}", soft_wrap=True, highlight=False)
    console.print(f"up in {time.monotonic() - started:.1f} s; stop it with `zt lab down`")


@lab.command()
@state_option
@as_json_option
@one_sentence
def status(*, state: Path, as_json: bool) -> None:
    """Show control planes, whether they answer, what their processes take, and all pods.

    \b
    Of each sidecar: how long its certificate is valid, and the TLS groups that it agreed on.
    Exit code 1 if a process has died or an API server does not answer.
      zt lab status --json
    """  # noqa: D301
    tell(shown(state), as_json=as_json)


def shown(state: Path) -> Shown:
    """The status of the lab in a folder.

    Raises:
        LabError: if none runs there.
    """
    seen = status_of(state)
    planes = [plane.where for plane in seen.planes if plane.ready and plane.nodes]

    def draw(console: Console) -> None:
        show_status(console, seen)
        show_pods(console, planes)

    return Shown(
        json=lambda: {**status_json(seen), "sidecars": sidecars_json(planes)},
        draw=draw,
        is_well=seen.is_well,
    )


@lab.command()
@state_option
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


for command in (verify, attack, faults, change, rotate, ca, tunnel, scan):
    lab.add_command(command)


def _chosen(clusters: tuple[Cluster, ...], names: tuple[str, ...]) -> tuple[Cluster, ...]:
    known = {cluster.name: cluster for cluster in clusters}
    for name in names:
        if name not in known:
            raise LabError(f"the policies have no cluster {name!r}{did_you_mean(name, known)}")
    return tuple(cluster for cluster in clusters if not names or cluster.name in names)
