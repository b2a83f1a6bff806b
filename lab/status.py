"""``zt status``: the local mesh and the lab, whichever of them runs."""

from __future__ import annotations

import click
from rich.console import Console

from lab.cluster.commands import shown as lab_shown
from lab.cluster.model import Layout
from lab.commands import LAB_STATE, MESH_STATE, Shown, as_json_option, one_sentence, tell
from lab.mesh.commands import shown as mesh_shown
from lab.mesh.folders import Folders
from lab.mesh.processes import MeshError, read_state


@click.command("status")
@as_json_option
@one_sentence
def command(*, as_json: bool) -> None:
    """Show what runs here: the local mesh, the lab, or both, each as its own `status` does.

    \b
    Of each sidecar: how long its certificate is valid, and the TLS groups that it agreed on.
    Exit code 1 if nothing runs, or something of it is not well. Examples:
      zt status
      zt status --json | jq .lab.sidecars
    """  # noqa: D301
    tell(_together(_running()), as_json=as_json)


def _running() -> dict[str, Shown]:
    found: dict[str, Shown] = {}
    if read_state(Folders(MESH_STATE.absolute())):
        found["mesh"] = mesh_shown(MESH_STATE)
    if read_state(Layout(LAB_STATE.absolute()).run):
        found["lab"] = lab_shown(LAB_STATE)
    if not found:
        raise MeshError(
            f"neither a mesh runs in {MESH_STATE} nor a lab in {LAB_STATE}:"
            " start one with `zt mesh up` or `zt lab up`"
        )
    return found


def _together(parts: dict[str, Shown]) -> Shown:
    def draw(console: Console) -> None:
        for name, part in parts.items():
            console.rule(name, align="left")
            part.draw(console)

    return Shown(
        json=lambda: {name: part.json() for name, part in parts.items()},
        draw=draw,
        is_well=all(part.is_well for part in parts.values()),
    )
