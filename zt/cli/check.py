"""``zt check``."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import click

from zt.cli.inputs import example, json_option, path_argument, today_option
from zt.cli.output import say, say_json
from zt.effective import effective
from zt.graph import granted
from zt.load import load
from zt.position import Finding, Severity
from zt.render.findings import findings_data, findings_text

if TYPE_CHECKING:
    from zt.model import Policy


@click.command("check", epilog=example("zt check --strict policies/"))
@click.option("--strict", is_flag=True, help="Warnings count as errors.")
@json_option
@today_option
@path_argument
def command(path: str, today: date, *, strict: bool, as_json: bool) -> None:
    """Find everything wrong with a policy.

    PATH is its directory or file (default: policies/). Exits with 1 where there are errors.
    """
    loaded = load(path)
    findings = loaded.findings
    if loaded.policy is not None:
        from zt.check import check  # noqa: PLC0415 - not for what cannot be read

        findings = check(loaded.policy, today)
    size = _size(loaded.policy, today)
    errors = sum(finding.severity is Severity.ERROR for finding in findings)
    if as_json:
        counts = {"errors": errors, "warnings": len(findings) - errors}
        say_json({**counts, **size, "findings": findings_data(findings)})
    else:
        say(findings_text(findings) + _summary(path, findings, errors, size))
    if errors or (strict and findings):
        click.get_current_context().exit(1)


def _size(policy: Policy | None, today: date) -> dict[str, int]:
    if policy is None:
        return {}
    resolved = effective(policy, today)
    return {
        "services": len(policy.services),
        "rules": sum(len(access.rules) for access in policy.access),
        "grants": len(granted(resolved)),
    }


def _summary(path: str, findings: tuple[Finding, ...], errors: int, size: dict[str, int]) -> str:
    sizes = "".join(f"{_count(number, what)}, " for what, number in size.items())
    warnings = len(findings) - errors
    return f"{path}: {sizes}{_count(errors, 'errors')}, {_count(warnings, 'warnings')}\n"


def _count(number: int, plural: str) -> str:
    return f"{number} {plural if number != 1 else plural.removesuffix('s')}"
