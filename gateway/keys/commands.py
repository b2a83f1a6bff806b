"""``zt keys``: where keys are, how old, and what to do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

import click

from gateway.keys.opening import open_store
from gateway.keys.rights import NAMES, policy
from gateway.keys.store import KeyStore, KeyStoreError
from gateway.tunnel.commands import rotate

# Days: the life of a WireGuard key, and when to say that it ends.
_LIFE, _SOON, _LATE = 90, 75, 85
_FAILED = 1
_SECONDS_A_DAY = 86400.0


@dataclass(frozen=True, slots=True)
class KeyState:
    """What may be known of a key: ``age`` in days; ``note`` says what is to be done."""

    path: str
    version: int
    age: float
    public_key: str
    versions: int
    disabled: int
    note: str


@click.group()
def keys() -> None:
    """See and rotate the keys that are in KMS; none is ever printed."""


@keys.command()
@click.argument("paths", nargs=-1, required=True)
@click.option("--address", required=True, help="URL of KMS; file:///... is a folder.")
@click.option("--project", default="zt-wireguard", show_default=True)
@click.option("--token-file", type=click.Path(path_type=Path), help="A token of KMS's own.")
@click.option("--authority", type=click.File(), help="CA of KMS (PEM); no other is trusted.")
@click.option("--namespace", default="")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(  # noqa: PLR0913 - options
    *,
    paths: tuple[str, ...],
    address: str,
    project: str,
    token_file: Path | None,
    authority: TextIO | None,
    namespace: str,
    as_json: bool,
) -> None:
    """Show versions, ages and public keys of secrets (PATHS, one for each cluster).

    \b
    The token needs the policy `zt-status` alone. Exit code 1 if a key is late.
      zt keys status hanzo-k8s lux-k8s --address https://kms:8200 --token-file ~/.vault-token
    """  # noqa: D301 - \b keeps click from joining the lines
    store = open_store(
        address,
        project,
        token_file,
        auth="token",
        authority=authority.read() if authority else "",
        namespace=namespace,
        patience=10.0,
    )
    try:
        found = list(_states(store, paths))
    except KeyStoreError as error:
        raise click.ClickException(str(error)) from None
    click.echo(json.dumps([asdict(item) for item in found]) if as_json else _table(found))
    if any(item.age > _LATE or not item.version for item in found):
        raise SystemExit(_FAILED)


@keys.command(name="policy")
@click.argument("name", type=click.Choice(NAMES))
@click.option("--cluster", default="", help="The cluster whose gateway or servers get it.")
def print_policy(*, name: str, cluster: str) -> None:
    """Print one of the policies for KMS, to be written there by an administrator.

    \b
      zt keys policy zt-wireguard --cluster lux-k8s | vault policy write zt-wireguard-lux-k8s -
    """  # noqa: D301
    try:
        click.echo(policy(name, cluster), nl=False)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


keys.add_command(rotate)


def _states(store: KeyStore, paths: tuple[str, ...]) -> Iterator[KeyState]:
    for path in paths:
        versions = store.versions(path)
        enabled = [item for item in versions if item.enabled]
        if not enabled:
            yield KeyState(path, 0, 0.0, "", len(versions), len(versions), "there is no key")
            continue
        facts, newest = store.description(path), enabled[-1]
        age = _age(facts.get("created", ""), newest.created)
        public, disabled = facts.get("publicKey", ""), len(versions) - len(enabled)
        yield KeyState(path, newest.number, age, public, len(versions), disabled, note(age))


def _age(noted: str, stored: datetime) -> float:
    """Days since the key was made: a version is also stored for what changes beside it."""
    made = datetime.fromtimestamp(float(noted), UTC) if noted else stored
    return (datetime.now(UTC) - made).total_seconds() / _SECONDS_A_DAY


def note(age: float) -> str:
    """What is to be done about a WireGuard key of so many days; nothing for long."""
    left = _LIFE - age
    if age > _LATE:
        return f"rotate it now: {left:.0f} of {_LIFE} days are left"
    if age > _SOON:
        return f"rotate it soon: {left:.0f} of {_LIFE} days are left"
    return ""


def _table(found: list[KeyState]) -> str:
    lines = [
        f"{item.path}: version {item.version}, {item.age:.1f} days old, "
        f"{item.disabled} of {item.versions} disabled"
        + (f", public key {item.public_key}" if item.public_key else "")
        + (f"; {item.note}" if item.note else "")
        for item in found
    ]
    return "\n".join(lines)
