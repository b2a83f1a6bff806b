"""``zt schema``."""

from __future__ import annotations

import click

from zt.cli.inputs import example, json_option
from zt.schema import text


@click.command("schema", epilog=example("zt schema > docs/policy.schema.json"))
@json_option
def command(*, as_json: bool) -> None:
    """Print the JSON Schema of policies.

    Editors check and complete policy files with it.
    """
    del as_json  # it is JSON anyway
    click.echo(text(), nl=False)
