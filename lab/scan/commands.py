"""``zt lab scan``: whether any file has key material in it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import click

from lab.scan.scan import Found
from lab.scan.scan import scan as secrets_in

_FOUND = 1


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, allow_dash=True))
@click.option(
    "--planted",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file whose bytes are a secret, whatever they look like.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def scan(*, paths: tuple[str, ...], planted: tuple[Path, ...], as_json: bool) -> None:
    """Look for private keys, tokens and passwords in states, objects and logs.

    \b
    Folders are read with all that is in them, - is standard input. What is found is told by kind,
    place and fingerprint. Exit code 1 if there is any. Examples:
      zt lab scan build/hanzo-k8s .zt/lab
      pulumi stack export | zt lab scan -
      kubectl get configmaps,pods -A -o json | zt lab scan - --planted wg.key
    """  # noqa: D301 - \b keeps click from joining the lines
    carriers = dict(_carriers(paths))
    found = secrets_in(carriers.items(), (path.read_bytes() for path in planted))
    if as_json:
        click.echo(json.dumps({"scanned": len(carriers), "found": [asdict(one) for one in found]}))
    else:
        _show(found, len(carriers))
    if found:
        raise SystemExit(_FOUND)


def _show(found: list[Found], scanned: int) -> None:
    for one in found:
        click.echo(str(one))
    secrets = "1 secret" if len(found) == 1 else f"{len(found) or 'no'} secrets"
    files = "1 file" if scanned == 1 else f"{scanned} files"
    click.echo(f"{secrets} in {files}", err=bool(found))


def _carriers(paths: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    for path in paths:
        if path == "-":
            yield "standard input", sys.stdin.buffer.read()
            continue
        for file in _files(Path(path)):
            yield str(file), file.read_bytes()


def _files(path: Path) -> Iterator[Path]:
    """Regular files: a socket or a pipe would never end."""
    if path.is_dir():
        yield from (file for file in sorted(path.rglob("*")) if file.is_file())
    else:
        yield path
