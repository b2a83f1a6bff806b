"""How commands answer: text, coloured on terminals, or JSON."""

from __future__ import annotations

import sys

import click


class Misuse(click.ClickException):
    """Something that can't be done as asked: one sentence on standard error, exit code 2."""

    exit_code = 2


_COLOURS = r"""
(?P<red>(?<![\w-])(DENY|refuses|error)(?![\w-])|^-\s.*$)|
(?P<green>(?<![\w-])(ALLOW|allows)(?![\w-])|^\+\s.*$)|
(?P<yellow>(?<![\w-])(warning|weaker|open)(?![\w-])|^~\s.*$)|
(?P<bold>(?<!\S)[^\s:]+\.ya?ml:\d+:\d+)
"""


def say(text: str) -> None:
    """Write text that ends in a newline to standard output."""
    if sys.stdout.isatty():
        _say_in_colour(text)
    else:
        click.echo(text, nl=False)


def _say_in_colour(text: str) -> None:
    import re  # noqa: PLC0415 - rich takes longer to import than most commands to run

    from rich.console import Console  # noqa: PLC0415 - same
    from rich.text import Text  # noqa: PLC0415 - same

    coloured = Text(text)
    coloured.highlight_regex(re.compile(_COLOURS, re.VERBOSE | re.MULTILINE))
    Console(highlight=False, soft_wrap=True).print(coloured, end="")


def say_json(value: object) -> None:
    """Write a JSON document to standard output."""
    import json  # noqa: PLC0415 - most runs want text

    click.echo(json.dumps(value, indent=2))
