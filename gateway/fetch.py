"""Brings a secret from KMS into a pod's memory: ``python3 -m gateway.fetch``.

Each field becomes a file that one user reads. What is printed are references and reasons, never
what the secret is. Exit code 1, with the reason, if it can't be had.

With ``--every`` it goes on: what has changed is written, and what can't be had is asked for again.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from gateway.keys import KeyStore, KeyStoreError, MissingError, add_arguments, store_of
from gateway.memory import NotInMemoryError, check_memory, write_keys
from gateway.once import Once

# Seconds. What comes after is the kubelet's: it starts the container again, ever less often.
_PATIENCE = 240.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetch what the arguments name; returns the exit code."""
    given = parser().parse_args(arguments)
    if given.every:
        keep(given, time.sleep)
    return fetch(given)


def fetch(given: argparse.Namespace) -> int:
    """Fetch once; returns the exit code."""
    try:
        # Before the key is anywhere here.
        check_memory(given.into)
        found = _read(store_of(given, _PATIENCE), given)
        write_keys(given.into, found)
    except (KeyStoreError, NotInMemoryError, ValueError, OSError) as error:
        sys.stderr.write(f"fetch: {error}\n")
        return 1
    names = ", ".join(sorted(found)) or "nothing"
    sys.stderr.write(f"fetch: {names} of {given.project}/{given.path} is in {given.into}\n")
    return 0


def keep(given: argparse.Namespace, pause: Callable[[float], None]) -> None:
    """Fetch for ever, with a pause before each time; a reason that lasts is written once."""
    known: Mapping[str, str] = {}
    problems = Once()
    # One for all times: what it came in with is renewed, where another would come in anew.
    store = store_of(given, _PATIENCE)
    while True:
        pause(given.every)
        try:
            found = _read(store, given)
            if found != known:
                write_keys(given.into, found)
                known = found
            problems.note(None)
        except (KeyStoreError, NotInMemoryError, ValueError, OSError) as error:
            if problems.note(str(error)):
                sys.stderr.write(f"fetch: {error}\n")


def _read(store: KeyStore, given: argparse.Namespace) -> Mapping[str, str]:
    try:
        found = store.read(given.path)
    except MissingError:
        if given.optional:
            return {}
        raise
    for name in given.field:
        if not found.get(name):
            raise MissingError(f"{given.project}/{given.path} has no {name}")
    return {name: found[name] for name in given.field} if given.field else found


def parser() -> argparse.ArgumentParser:
    """What the program is told."""
    made = argparse.ArgumentParser(prog="gateway.fetch", description=__doc__)
    add_arguments(made)
    made.add_argument("--path", required=True, help="The secret in its project.")
    made.add_argument("--into", type=Path, required=True, help="A folder in memory.")
    made.add_argument(
        "--field", action="append", default=[], help="A field that must be there; others stay."
    )
    made.add_argument("--every", type=float, help="Go on, with so many seconds between.")
    made.add_argument("--optional", action="store_true", help="It is well if there is none yet.")
    return made


if __name__ == "__main__":
    sys.exit(main())
