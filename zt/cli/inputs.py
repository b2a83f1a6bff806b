"""What commands take: the path of a policy, the day, the ends of a connection."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from typing import Any, NoReturn, TypeVar

import click

from zt.cli.output import Misuse, say, say_json
from zt.effective import EXTERNAL
from zt.load import Loaded, load
from zt.model import Policy, Service
from zt.position import Finding
from zt.spiffe import SCHEME, parse_pattern

DEFAULT_PATH = "policies"
_F = TypeVar("_F", bound=Callable[..., Any])


def example(line: str) -> str:
    """The end of a command's help; the mark keeps click from folding the lines."""
    return f"\b\nExample:\n  {line}"


def path_argument(command: _F) -> _F:
    """``[PATH]``, the policy directory or file."""
    return click.argument("path", default=DEFAULT_PATH, type=click.Path())(command)


def json_option(command: _F) -> _F:
    """``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")(command)


def today_option(command: _F) -> _F:
    """``--today``, for tests and for questions about another day."""
    return click.option(
        "--today", type=_Day(), default=lambda: datetime.now(UTC).date(), hidden=True
    )(command)


class _Day(click.ParamType[date]):
    name = "day"

    def convert(
        self, value: str | date, param: click.Parameter | None, ctx: click.Context | None
    ) -> date:
        if isinstance(value, date):
            return value
        try:
            return date.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is not a day such as 2027-01-31", param, ctx)


def policy_at(path: str, *, as_json: bool) -> Policy:
    """Read a policy; where it cannot be, say why and exit with 1."""
    return usable(load(path), as_json=as_json)


def usable(loaded: Loaded, *, as_json: bool) -> Policy:
    """The policy that was read; where there is none, say why and exit with 1."""
    if loaded.policy is None:
        stop(loaded.findings, as_json=as_json)
    return loaded.policy


def stop(findings: tuple[Finding, ...], *, as_json: bool) -> NoReturn:
    """Print findings as ``zt check`` does and exit with 1."""
    from zt.render.findings import findings_data, findings_text  # noqa: PLC0415 - rarely needed

    if as_json:
        say_json({"findings": findings_data(findings)})
    else:
        say(findings_text(findings))
    click.get_current_context().exit(1)


def party_named(policy: Policy, text: str) -> str:
    """The ID that a person means: an ID, ``external:<name>``, or a service's name.

    Raises:
        Misuse: if it is not an ID, or the name of no service or of several.
    """
    if text.startswith(SCHEME):
        return _identity(text)
    if text.startswith(EXTERNAL):
        return text
    found = [service for service in policy.services if text in _names(service)]
    if len(found) == 1:
        return found[0].spiffe(policy.mesh)
    if found:
        choices = ", ".join(f"{service.cluster}/{service.name}" for service in found)
        raise Misuse(f"{text!r} names {len(found)} services: say which of {choices}")
    raise Misuse(_unknown(policy, text))


def _identity(text: str) -> str:
    try:
        pattern = parse_pattern(text)
    except ValueError as error:
        raise Misuse(str(error)) from None
    if not pattern.is_exact:
        raise Misuse(f"{text!r} is a pattern: name one identity")
    return text


def _names(service: Service) -> Iterator[str]:
    for name in {service.name, service.account}:
        yield name
        yield f"{service.cluster}/{name}"
        yield f"{service.cluster}/{service.namespace}/{name}"


def _unknown(policy: Policy, text: str) -> str:
    from zt.nearest import did_you_mean  # noqa: PLC0415 - needed for this message alone

    names = [service.name for service in policy.services]
    names += [EXTERNAL + external.name for external in policy.externals]
    return f"no service is called {text!r}{did_you_mean(text, names)}"
