"""``zt compile``."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import click

from zt.check import check
from zt.cli.inputs import example, json_option, path_argument, policy_at, stop, today_option
from zt.cli.outdir import write
from zt.cli.output import Misuse, say, say_json
from zt.compile import compile_policy
from zt.position import Severity


@click.command("compile", epilog=example("zt compile --cluster hanzo-k8s --out build/hanzo-k8s"))
@click.option("--cluster", required=True, metavar="NAME", help="A cluster of the mesh.")
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder to write; it must be empty, or written by an earlier run.",
)
@json_option
@today_option
@path_argument
def command(path: str, today: date, cluster: str, out: Path, *, as_json: bool) -> None:
    """Compile a policy for one cluster.

    PATH is the policy's directory or file (default: policies/). DIR then holds what is compiled,
    and no file of an earlier run.
    """
    policy = policy_at(path, as_json=as_json)
    findings = check(policy, today)
    if any(finding.severity is Severity.ERROR for finding in findings):
        stop(findings, as_json=as_json)
    try:
        bundle = compile_policy(policy, cluster, today)
    except ValueError as error:
        raise Misuse(str(error)) from None
    try:
        write(bundle, out)
    except OSError as error:
        raise Misuse(f"{error.filename or out} cannot be written: {error.strerror}") from None
    if as_json:
        files = [file.path for file in bundle.files]
        say_json({"cluster": cluster, "digest": bundle.digest(), "files": files})
    else:
        say(f"{out}: {len(bundle.files)} files for {cluster}\n")
