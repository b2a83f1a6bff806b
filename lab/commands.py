"""What the commands of all rooms of the lab have in common."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import click

from lab.mesh.processes import MeshError

_P = ParamSpec("_P")

# The exit code of a command that ran and found something wrong.
FAILED = 1

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def one_sentence(command: Callable[_P, None]) -> Callable[_P, None]:
    """What goes wrong is said in one sentence, with exit code 1."""

    @wraps(command)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except MeshError as error:
            raise click.ClickException(str(error)) from None

    return run
