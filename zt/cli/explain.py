"""``zt explain``."""

from __future__ import annotations

from datetime import date

import click

from zt.cli.inputs import example, json_option, party_named, path_argument, policy_at, today_option
from zt.cli.output import say, say_json
from zt.decide import decision_table
from zt.effective import effective
from zt.explain import explain
from zt.render.data import explanation_data
from zt.render.text import explanation_text
from zt.values import MAX_PORT


@click.command("explain", epilog=example("zt explain --from chat --to gateway --port 4000"))
@click.option("--from", "source", required=True, metavar="ID", help="Who calls.")
@click.option("--to", "destination", required=True, metavar="ID", help="Who is called.")
@click.option("--port", required=True, type=click.IntRange(1, MAX_PORT), help="The called port.")
@json_option
@today_option
@path_argument
def command(  # noqa: PLR0913 - one for each option
    path: str, today: date, source: str, destination: str, port: int, *, as_json: bool
) -> None:
    """Tell why a connection is allowed, or not.

    By which rule, what each plane says of it, and what would allow it. An ID is a SPIFFE ID, the
    name of a service (where several have it: cluster/name), or external:NAME. PATH is the policy's
    directory or file (default: policies/). Exits with 1 where it is denied.
    """
    policy = policy_at(path, as_json=as_json)
    found = explain(
        effective(policy, today),
        decision_table(policy, today),
        party_named(policy, source),
        party_named(policy, destination),
        port,
    )
    if as_json:
        say_json(explanation_data(found))
    else:
        say(explanation_text(found))
    if not found.allowed:
        click.get_current_context().exit(1)
