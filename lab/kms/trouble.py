"""How the KMS of a lab fails those who ask it: each is so while its block lasts."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from lab.cluster.model import LabError, Layout
from lab.kms.server import NAME, Kms, client, open_up, seal, secret_in
from lab.mesh.processes import is_alive, read_state, send
from lab.mesh.restart import restart


@contextmanager
def sealed(kms: Kms) -> Iterator[None]:
    """It is locked."""
    seal(kms)
    try:
        yield
    finally:
        open_up(kms)


@contextmanager
def stopped(layout: Layout, kms: Kms) -> Iterator[None]:
    """It was killed, and nobody starts it again.

    Raises:
        LabError: if it does not run.
    """
    state = read_state(layout.run)
    found = next((item for item in state.processes if item.name == NAME), None) if state else None
    if found is None or not is_alive(found.identity):
        raise LabError("the KMS does not run")
    send(found.identity, signal.SIGKILL)
    try:
        yield
    finally:
        restart(layout.run, NAME)
        open_up(kms)


@contextmanager
def forbidden(kms: Kms, policy: str) -> Iterator[None]:
    """A policy is gone: whoever has a role with it comes in, and may do nothing."""
    system = client(kms).sys
    rules = system.read_policy(policy)["data"]["rules"]
    system.delete_policy(policy)
    try:
        yield
    finally:
        system.create_or_update_policy(policy, rules)


@contextmanager
def lacking(kms: Kms, project: str, path: str, field: str) -> Iterator[None]:
    """The newest version of a secret lacks a field."""
    found = secret_in(client(kms), project, path)
    _write(kms, project, path, {name: text for name, text in found.items() if name != field})
    try:
        yield
    finally:
        _write(kms, project, path, found)


def _write(kms: Kms, project: str, path: str, secret: dict[str, str]) -> None:
    client(kms).secrets.kv.v2.create_or_update_secret(path, secret, mount_point=project)
