"""``zt ca``: the ceremonies by which roots and issuing CAs are made."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

import click

from gateway.ca import approval, transcript
from gateway.ca import plan as plans
from gateway.ca.ceremony import Ceremony, CeremonyError, actions
from gateway.ca.certificates import load_certificate
from gateway.ca.plan import WHAT, Plan, PlanError, Step
from gateway.ca.state import Issuing, Root, State, refusal, state_of, waiting
from gateway.keys import KeyStoreError, open_store
from zt.load import PolicyError, load_policy
from zt.values import duration, parse_duration

_P = ParamSpec("_P")

_ERRORS = (
    approval.ApprovalError,
    CeremonyError,
    KeyStoreError,
    PlanError,
    PolicyError,
    transcript.TranscriptError,
    OSError,
)
_PROJECT = "zt-root-ca"
# Warned about before it ends.
_SOON = {"root": timedelta(days=60), "issuing": timedelta(days=21)}


def _one_sentence(command: Callable[_P, None]) -> Callable[_P, None]:
    @wraps(command)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except _ERRORS as error:
            raise click.ClickException(str(error)) from None

    return run


_file = click.Path(path_type=Path, dir_okay=False)
_transcript = click.option(
    "--transcript",
    "path",
    type=_file,
    default=Path("ca-transcript.jsonl"),
    show_default=True,
    help="What ceremonies have done so far; keep it in Git.",
)


@click.group()
def ca() -> None:
    """Make and renew the root CA and the issuing CAs below it.

    \b
    Two people confirm a plan; private keys go to KMS and are never shown. Examples:
      zt ca plan --step announce --root root-2027 --out announce.yaml
      zt ca confirm announce.yaml --by alice --key ~/.ssh/id_ed25519
      zt ca ceremony announce.yaml --approvers approvers --dry-run
      zt ca status
    """  # noqa: D301 - \b keeps click from joining the lines


@ca.command()
@click.option(
    "--step",
    type=click.Choice([step.value for step in Step]),
    required=True,
    help="What is to be done.",
)
@click.option("--root", required=True, help="The root that it is about, such as root-2027.")
@click.option("--cluster", "clusters", multiple=True, help="These alone; default: all.")
@click.option(
    "--issuing", default=duration(plans.ISSUING), show_default=True, help="Life of issuing CAs."
)
@click.option(
    "--policies", type=click.Path(path_type=Path), default=Path("policies"), show_default=True
)
@click.option("--out", type=_file, help="Where to write the plan; default: standard output.")
@_transcript
@_one_sentence
def plan(  # noqa: PLR0913 - an option each
    *,
    step: str,
    root: str,
    clusters: tuple[str, ...],
    issuing: str,
    policies: Path,
    out: Path | None,
    path: Path,
) -> None:
    """Write down what a ceremony is to do, for the present state of the transcript.

    \b
    found      make the first root, and an issuing CA for each cluster
    announce   make a new root and publish it; it signs nothing yet
    activate   let it sign, once everybody knows it
    renew      new issuing CAs from the root that signs
    retire     publish the old root no longer
    """  # noqa: D301
    mesh = load_policy(policies).mesh
    try:
        lifetime = parse_duration(issuing)
    except ValueError as error:
        raise PlanError(str(error)) from None
    after = transcript.head(transcript.read(path))
    whole = plans.plan_of(mesh, Step(step), root, after)
    made = replace(whole, issuing_lifetime=lifetime, clusters=clusters or whole.clusters)
    text = plans.to_text(plans.from_text(plans.to_text(made)))
    if out is None:
        click.echo(text, nl=False)
    else:
        out.write_text(text, encoding="utf-8")


@ca.command()
@click.argument("file", type=_file)
@click.option("--by", required=True, help="Your name, as the list of approvers has it.")
@click.option("--key", type=_file, required=True, help="Your private key (ssh-keygen -t ed25519).")
@click.option("--yes", is_flag=True, help="Do not ask.")
@_one_sentence
def confirm(*, file: Path, by: str, key: Path, yes: bool) -> None:
    """Confirm a plan with your own key, after having read it."""
    found = _plan_of(file)
    _show(found)
    if not yes:
        click.confirm("Is that what shall be done, and is the digest the other's too?", abort=True)
    content = key.read_bytes()
    try:
        made = approval.approve(found, by, content)
    except approval.ApprovalError:
        password = click.prompt("Password of the key", hide_input=True, err=True)
        made = approval.approve(found, by, content, str(password).encode())
    click.echo(f"confirmed in {approval.write(file, made)}")


@ca.command()
@click.argument("file", type=_file)
@click.option("--approvers", type=_file, required=True, help="Who may confirm: <name> <SSH key>.")
@click.option("--address", help="KMS, such as https://kms.hanzo.ai; file:///... is a folder.")
@click.option("--project", default=_PROJECT, show_default=True, help="Project of KMS.")
@click.option("--token-file", type=_file, help="A file with a token of yours.")
@click.option(
    "--auth",
    default="token",
    show_default=True,
    help="Where KMS takes the token: an auth mount, or `token` if it is one of KMS's own.",
)
@click.option("--role", default="", help="Of that mount.")
@click.option("--authority", default="", help="CA of KMS as a PEM file; no other is trusted.")
@click.option(
    "--wait",
    help="How long a root must have been published before it is relied upon;"
    " default: two lives of SPIRE's CAs.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be done; KMS is not asked.")
@_transcript
@_one_sentence
def ceremony(  # noqa: PLR0913 - an option each
    *,
    file: Path,
    approvers: Path,
    address: str | None,
    project: str,
    token_file: Path | None,
    auth: str,
    role: str,
    authority: str,
    wait: str | None,
    dry_run: bool,
    path: Path,
) -> None:
    """Carry out a plan that two people have confirmed; if it breaks off, run it again."""
    # What a crash would leave on disk may hold a key.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    found = _plan_of(file)
    _show(found)
    listed = approval.approvers_of(approvers.read_text(encoding="utf-8"))
    patience = timedelta(seconds=parse_duration(wait)) if wait else waiting(found)
    if dry_run:
        _rehearse(found, file, listed, path, patience)
        return
    by = approval.confirmed(found, approval.read_all(file), listed)
    if address is None:
        raise click.UsageError("--address says where KMS is")
    store = open_store(address, project, token_file, auth=auth, role=role, authority=authority)
    state = Ceremony(store, path, patience, click.echo).carry_out(found, by)
    _show_state(state, datetime.now(UTC))


def _rehearse(
    found: Plan, file: Path, listed: approval.Approvers, path: Path, wait: timedelta
) -> None:
    entries = transcript.read(path)
    state = state_of(entries)
    reason = refusal(found, state, transcript.head(entries), datetime.now(UTC), wait)
    for action in actions(found, state):
        click.echo(f"would {action}")
    if reason:
        raise CeremonyError(f"it can't be carried out now: {reason}")
    by = approval.confirmed(found, approval.read_all(file), listed)
    click.echo(f"confirmed by {' and '.join(by)}; nothing was done")


@ca.command()
@_transcript
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@_one_sentence
def status(*, path: Path, as_json: bool) -> None:
    """Show the roots and issuing CAs, and how long they live; checks the transcript's chain.

    Exit code 1 where one has ended, or ends soon.
    """
    state, now = state_of(transcript.read(path)), datetime.now(UTC)
    if as_json:
        click.echo(json.dumps(_state_json(state, now)))
    else:
        _show_state(state, now)
    if any(item["soon"] for item in _rows(state, now)):
        raise SystemExit(1)


def _plan_of(file: Path) -> Plan:
    return plans.from_text(file.read_text(encoding="utf-8"))


def _show(found: Plan) -> None:
    click.echo(f"{found.name}: {WHAT[found.step]}")
    lives = f"{duration(found.root_lifetime)}, issuing CAs {duration(found.issuing_lifetime)}"
    click.echo(f"  trust domain  {found.trust_domain}")
    click.echo(f"  root          {found.root}")
    click.echo(f"  clusters      {', '.join(found.clusters)}")
    click.echo(f"  keys          {found.key_type}; roots live {lives}")
    click.echo(f"  follows       {found.after}")
    click.echo(f"  digest        {found.digest()}")


def _rows(state: State, now: datetime) -> list[dict[str, Any]]:
    roots = [_row("root", root, root.name, _is(root), now) for root in state.published]
    issuing = [
        _row("issuing", item, item.cluster, f"below {item.root}", now) for item in state.issuing
    ]
    return [*roots, *issuing]


def _row(tier: str, item: Root | Issuing, name: str, what: str, now: datetime) -> dict[str, Any]:
    ends = load_certificate(item.certificate).not_valid_after_utc
    return {
        "tier": tier,
        "name": name,
        "state": what,
        "ends": ends.isoformat(),
        "days_left": round((ends - now) / timedelta(days=1), 1),
        "soon": ends - now < _SOON[tier],
        "fingerprint": item.fingerprint,
    }


def _is(root: Root) -> str:
    return f"signs since {root.active:%Y-%m-%d}" if root.active else "is announced"


def _state_json(state: State, now: datetime) -> dict[str, Any]:
    active = state.active
    return {
        "active": active.name if active else None,
        "unfinished": state.unfinished,
        "authorities": _rows(state, now),
    }


def _show_state(state: State, now: datetime) -> None:
    for row in _rows(state, now):
        soon = "  ENDS SOON" if row["soon"] else ""
        click.echo(
            f"{row['tier']:8} {row['name']:12} {row['state']:24} {row['days_left']:8} days"
            f"  {row['fingerprint'][:16]}{soon}"
        )
    if state.unfinished:
        click.echo(f"a ceremony was begun and not ended: carry out plan {state.unfinished[:16]}")
