"""The group of commands; each is imported only when it is asked for, because start-up time counts.

Commands of other rooms come in by the entry point group ``zt.commands``, so that no import leads
from here to them.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, NoReturn

import click

from zt.cli.output import Misuse

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

_OWN = ("check", "compile", "diff", "evaluate", "explain", "graph", "schema")
_EXTENSIONS = "zt.commands"
_INSTALL = "run `make setup`, or `pip install --no-deps --editable .` in the checkout"
_INTERRUPTED = 130
_BROKEN_PIPE = 141


class Commands(click.Group):
    """Finds commands by name, here or among the entry points."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Ours and those of other rooms."""
        del ctx
        return sorted({*_OWN, *_extensions()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; one that cannot be is a command that says so."""
        del ctx
        if cmd_name in _OWN:
            command: click.Command = importlib.import_module(f"zt.cli.{cmd_name}").command
            return command
        found = _extensions().get(cmd_name)
        return _load(found) if found else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Name the nearest command where there is none of that name."""
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            raise Misuse(_unknown(name, self.list_commands(ctx)))
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        """End quietly where nobody reads on."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # Python flushes standard output once more when it ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(_BROKEN_PIPE)


def _extensions() -> Mapping[str, EntryPoint]:
    from importlib.metadata import entry_points  # noqa: PLC0415 - takes a tenth of our start-up

    return {found.name: found for found in entry_points(group=_EXTENSIONS)}


def _load(extension: EntryPoint) -> click.Command:
    try:
        command: click.Command = extension.load()
    except (ImportError, AttributeError) as error:
        return _broken(extension.name, error)
    return command


def _broken(name: str, error: Exception) -> click.Command:
    message = f"zt {name} is not usable here ({error}): {_INSTALL}"

    def fail() -> NoReturn:
        raise Misuse(message)

    settings = {"ignore_unknown_options": True, "allow_extra_args": True}
    return click.Command(name, callback=fail, short_help=message, context_settings=settings)


def _unknown(name: str, known: list[str]) -> str:
    from zt.nearest import did_you_mean  # noqa: PLC0415 - needed for this message alone

    message = f"zt has no command {name!r}{did_you_mean(name, known)}"
    if not _extensions():
        message += f"; commands beside its own come with an installed zt: {_INSTALL}"
    return message


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
def zt() -> None:
    """Zero trust as code: one directory of policies, compiled into what enforces it.

    Exit codes: 0 good, 1 findings, changes or denied, 2 misuse.
    """


def main() -> NoReturn:
    """Run ``zt`` as a program."""
    try:
        code = zt.main(prog_name="zt", standalone_mode=False)
    except (click.Abort, KeyboardInterrupt):
        code = _INTERRUPTED
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    sys.exit(code if isinstance(code, int) else 0)
