"""The KMS of a running lab as it is reached from outside, where commands of the lab run."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import requests
from hvac.exceptions import VaultError

from gateway.keys import KeyStore, open_store
from lab.cluster.forward import forward
from lab.cluster.model import LabError, Layout
from lab.kms.server import Kms, client, kms_of, secret_in
from lab.kms.setup import AUTHORITIES, token_for
from lab.mesh.folders import write_private

_CEREMONY = "zt-root-ca-ceremony"


def near(layout: Layout) -> Kms:
    """The same KMS by a forwarded port, for as long as this process lives.

    Raises:
        LabError: if there is none.
    """
    kms = kms_of(layout)
    if not kms.folder.exists():
        raise LabError(f"the lab in {layout.root} has no KMS")
    return replace(kms, address="127.0.0.1", port=forward(layout.internet, kms.address, kms.port))


@contextmanager
def ceremony_store(kms: Kms) -> Iterator[KeyStore]:
    """The project of the CAs by a token of the ceremony's, which is revoked afterwards.

    Raises:
        LabError: if KMS gives none.
    """
    vault = client(kms)
    with _told():
        token = token_for(vault, _CEREMONY)
    # In memory: a token is as good as the keys.
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        file = Path(folder) / "token"
        write_private(file, token.encode())
        try:
            yield open_store(
                kms.url,
                AUTHORITIES,
                file,
                auth="token",
                authority=kms.authority.read_text(encoding="ascii"),
            )
        finally:
            with _told():
                vault.auth.token.revoke(token)


def issuing_ca(kms: Kms, cluster: str) -> Mapping[str, str]:
    """The issuing CA of a cluster with its key, as who may do everything reads it.

    Raises:
        LabError: if it can't be read.
    """
    with _told():
        return secret_in(client(kms), AUTHORITIES, f"spire/{cluster}")


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except (VaultError, requests.RequestException) as error:
        raise LabError(f"the KMS of the lab does not do as it is told: {error}") from None
