"""``zt mesh``: the whole mesh on one machine."""

from __future__ import annotations

import json
import time
from pathlib import Path

import click
from rich.console import Console

from lab.commands import FAILED, MESH_STATE, Shown, as_json_option, one_sentence, tell
from lab.mesh.attacks import attack
from lab.mesh.cleanup import stop_mesh
from lab.mesh.folders import Folders
from lab.mesh.model import Options, running_mesh
from lab.mesh.processes import MeshError, State, is_alive, read_state
from lab.mesh.restart import restart as restart_process
from lab.mesh.show import held, show_status, show_verification, status_json, verification_json
from lab.mesh.start import up as start_mesh
from lab.mesh.status import status as status_of
from lab.mesh.trail import Trail
from lab.mesh.verify import verify as verify_mesh

_state = click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    default=MESH_STATE,
    show_default=True,
    help="Folder of the running mesh: keys, database, sockets, logs.",
)


@click.group()
def mesh() -> None:
    """Run the whole mesh on this machine: real Envoys, evaluators and PostgreSQL, without root.

    \b
    Examples:
      zt mesh up                    start everything and prove it
      zt mesh up --phase observe    the same, at another step of the rollout
      zt mesh verify --json         prove it again
      zt mesh status                what runs
      zt mesh down                  stop and clean up
    """  # noqa: D301 - \b keeps click from joining the lines


@mesh.command()
@_state
@click.option(
    "--policies",
    type=click.Path(path_type=Path, exists=True),
    default=Path("policies"),
    show_default=True,
    help="The policies to run.",
)
@click.option("--phase", help="Put this step of the Rollout in force instead of the current one.")
@click.option(
    "--svid-ttl",
    type=click.IntRange(min=4),
    help="Lifetime of SVIDs in seconds, renewed at half; the mesh's by default.",
)
@click.option("--no-verify", is_flag=True, help="Don't prove it once it runs.")
@as_json_option
@one_sentence
def up(  # noqa: PLR0913 - one for each option
    *,
    state: Path,
    policies: Path,
    phase: str | None,
    svid_ttl: int | None,
    no_verify: bool,
    as_json: bool,
) -> None:
    """Start every service of the policies behind a real Envoy, and prove what passes.

    \b
    The mesh goes on running in the background. Examples:
      zt mesh up
      zt mesh up --policies other/ --state /tmp/other --svid-ttl 60
    """  # noqa: D301
    folders, started = _folders(state), time.monotonic()
    console = Console(stderr=as_json)
    with console.status("starting") as line:

        def report(step: str) -> None:
            console.print(
                f"[dim]{time.monotonic() - started:5.1f} s[/dim]  {step}", highlight=False
            )
            line.update(step)

        facts = start_mesh(folders, Options(policies, phase, svid_ttl), report)
        if not no_verify:
            report("calling everybody from everybody")
    if no_verify:
        if as_json:
            click.echo(json.dumps(dict(facts)))
    else:
        _prove(folders, console, as_json=as_json)
    console.print(f"up in {time.monotonic() - started:.1f} s; stop it with `zt mesh down`")
    console.print(f"graph: {facts['page']}", highlight=False)


@mesh.command()
@_state
@as_json_option
@one_sentence
def verify(*, state: Path, as_json: bool) -> None:
    """Call every port from every service, try what an attacker would, and compare with the policy.

    \b
    Nothing else should call meanwhile: the audit trail is counted. Exit code 1 on any surprise.
      zt mesh verify
      zt mesh verify --json | jq .mismatches
    """  # noqa: D301
    _verify(_folders(state), Console(stderr=as_json), as_json=as_json)


@mesh.command()
@_state
@as_json_option
@one_sentence
def status(*, state: Path, as_json: bool) -> None:
    """Show processes, sidecars with their certificates and TLS groups, and decisions a second.

    \b
    Exit code 1 if a process has died.
      zt mesh status
    """  # noqa: D301
    tell(shown(state), as_json=as_json)


def shown(state: Path) -> Shown:
    """The status of the mesh in a folder.

    Raises:
        MeshError: if none runs there.
    """
    folders = _folders(state)
    found = _running(folders)
    seen = status_of(found, running_mesh(folders, found))
    return Shown(
        json=lambda: status_json(seen),
        draw=lambda console: show_status(console, seen),
        is_well=seen.is_well,
    )


@mesh.command()
@click.argument("process")
@_state
@as_json_option
@one_sentence
def restart(*, process: str, state: Path, as_json: bool) -> None:
    """End a process if it still runs, and start it again; see `status` for names.

    \b
      zt mesh restart evaluator.hanzo-k8s
    """  # noqa: D301
    folders = _folders(state)
    _running(folders)
    pid = restart_process(folders, process)
    click.echo(json.dumps({"process": process, "pid": pid}) if as_json else f"{process} is {pid}")


@mesh.command()
@_state
@as_json_option
@one_sentence
def down(*, state: Path, as_json: bool) -> None:
    """Stop the mesh and remove what it left; works also after its supervisor was killed.

    \b
      zt mesh down
      zt mesh down --state /tmp/other
    """  # noqa: D301
    left = stop_mesh(_folders(state))
    if as_json:
        click.echo(json.dumps({"was_running": left is not None, "ended": list(left or ())}))
    elif left is None:
        click.echo(f"no mesh is running in {state}")
    else:
        click.echo("stopped")


def _prove(folders: Folders, console: Console, *, as_json: bool) -> None:
    """Verify a new mesh: surprises leave it up to be looked at, an interruption does not."""
    try:
        _verify(folders, console, as_json=as_json)
    except KeyboardInterrupt:
        stop_mesh(folders)
        raise


def _folders(state: Path) -> Folders:
    return Folders(state.absolute())


def _running(folders: Folders) -> State:
    """The state of a mesh that runs.

    Raises:
        MeshError: if none does.
    """
    found = read_state(folders)
    if found is None:
        raise MeshError(f"no mesh is running in {folders.root}: start one with `zt mesh up`")
    if found.supervisor is None or not is_alive(found.supervisor):
        raise MeshError(
            f"the supervisor of the mesh in {folders.root} was killed: clean up with `zt mesh down`"
        )
    return found


def _verify(folders: Folders, console: Console, *, as_json: bool) -> None:
    found = _running(folders)
    running = running_mesh(folders, found)
    trail = Trail(running.database)
    try:
        verification, attacks = verify_mesh(running, trail), attack(running, trail)
    finally:
        trail.close()
    if as_json:
        click.echo(json.dumps(verification_json(running, verification, attacks)))
    else:
        show_verification(console, running, verification, attacks)
    if not held(verification, attacks):
        raise SystemExit(FAILED)
