"""What the commands of all rooms of the lab have in common."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

import click
from rich.console import Console

from lab.mesh.processes import MeshError

_P = ParamSpec("_P")

# The exit code of a command that ran and found something wrong.
FAILED = 1

# Where a mesh and a lab are, relative to the folder in which the commands are run.
MESH_STATE, LAB_STATE = Path(".zt/mesh"), Path(".zt/lab")

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
state_option = click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    default=LAB_STATE,
    show_default=True,
    help="Folder of the running lab.",
)


def one_sentence(command: Callable[_P, None]) -> Callable[_P, None]:
    """What goes wrong is said in one sentence, with exit code 1."""

    @wraps(command)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except MeshError as error:
            raise click.ClickException(str(error)) from None

    return run


@contextmanager
def alone(folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """No other block of the same folder runs meanwhile, in whichever process; they wait.

    Whoever counts what is called in a lab must be the only one who calls.
    """
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another command that calls in this lab")
            fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)


class teller:  # noqa: N801 - used as a function
    """Says steps with the time since it was made; beside JSON, on the other stream."""

    def __init__(self, *, as_json: bool) -> None:
        self._began, self._console = time.monotonic(), Console(stderr=as_json)

    def __call__(self, step: str) -> None:
        """Say a step."""
        passed = time.monotonic() - self._began
        self._console.print(f"[dim]{passed:6.1f} s[/dim]  {step}", highlight=False, soft_wrap=True)


@dataclass(frozen=True, slots=True)
class Shown:
    """What a status has to tell: to programs, or drawn; and whether all is well."""

    json: Callable[[], dict[str, Any]]
    draw: Callable[[Console], None]
    is_well: bool


def tell(shown: Shown, *, as_json: bool) -> None:
    """Print a status.

    Raises:
        SystemExit: if not all is well.
    """
    if as_json:
        click.echo(json.dumps(shown.json()))
    else:
        shown.draw(Console())
    if not shown.is_well:
        raise SystemExit(FAILED)
