"""What the commands of all rooms of the lab have in common."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import ParamSpec

import click
from rich.console import Console

from lab.mesh.processes import MeshError

_P = ParamSpec("_P")

# The exit code of a command that ran and found something wrong.
FAILED = 1

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
state_option = click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(".zt/lab"),
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


class teller:  # noqa: N801 - used as a function
    """Says steps with the time since it was made; beside JSON, on the other stream."""

    def __init__(self, *, as_json: bool) -> None:
        self._began, self._console = time.monotonic(), Console(stderr=as_json)

    def __call__(self, step: str) -> None:
        """Say a step."""
        passed = time.monotonic() - self._began
        self._console.print(f"[dim]{passed:6.1f} s[/dim]  {step}", highlight=False, soft_wrap=True)
