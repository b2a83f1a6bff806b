"""``zt graph``."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

import click

from zt.cli.inputs import example, json_option, path_argument, policy_at, today_option
from zt.cli.output import say, say_json
from zt.effective import effective
from zt.graph import Graph, graph
from zt.render.data import graph_data
from zt.render.dot import dot
from zt.render.mermaid import mermaid
from zt.render.svg import svg
from zt.render.text import graph_text

_FORMATS: dict[str, Callable[[Graph], str]] = {
    "text": graph_text,
    "mermaid": mermaid,
    "dot": dot,
    "svg": svg,
}


@click.command("graph", epilog=example("zt graph --format svg policies/ > graph.svg"))
@click.option(
    "--format",
    "form",
    type=click.Choice([*_FORMATS, "json"]),
    default="text",
    show_default=True,
    help="What to write.",
)
@json_option
@today_option
@path_argument
def command(path: str, today: date, form: str, *, as_json: bool) -> None:
    """Draw who may call whom.

    By the policy at PATH (default: policies/).
    """
    as_json = as_json or form == "json"
    found = graph(effective(policy_at(path, as_json=as_json), today))
    if as_json:
        say_json(graph_data(found))
    elif form == "text":
        say(graph_text(found))
    else:
        click.echo(_FORMATS[form](found), nl=False)
