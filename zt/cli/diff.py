"""``zt diff``."""

from __future__ import annotations

import os
from datetime import date

import click

from zt.cli.inputs import example, json_option, today_option, usable
from zt.cli.output import say, say_json
from zt.cli.revision import load_revision
from zt.diff import diff
from zt.effective import Effective, effective
from zt.load import load
from zt.render.data import diff_data
from zt.render.markdown import markdown
from zt.render.text import diff_text


@click.command("diff", epilog=example("zt diff main:policies policies/"))
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "md", "json"]),
    default="text",
    show_default=True,
    help="What to write; md stays below 60,000 characters.",
)
@json_option
@today_option
@click.argument("old")
@click.argument("new")
def command(old: str, new: str, today: date, form: str, *, as_json: bool) -> None:
    """Tell who can newly reach whom.

    And who no longer can, from policy OLD to policy NEW. Each is a path, or REVISION:PATH of the
    Git repository around the working directory. Exits with 0 where nobody reaches or may do more
    or less than before, else with 1.
    """
    as_json = as_json or form == "json"
    found = diff(_policy(old, today, as_json=as_json), _policy(new, today, as_json=as_json))
    if as_json:
        say_json(diff_data(found))
    elif form == "md":
        click.echo(markdown(found), nl=False)
    else:
        say(diff_text(found))
    if found.changes_access:
        click.get_current_context().exit(1)


def _policy(where: str, today: date, *, as_json: bool) -> Effective:
    is_revision = ":" in where and not os.path.lexists(where)
    loaded = load_revision(where) if is_revision else load(where)
    return effective(usable(loaded, as_json=as_json), today)
