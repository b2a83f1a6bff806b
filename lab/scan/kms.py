"""The keys that the KMS of a lab has, so that they can be looked for elsewhere."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from lab.cluster.model import Layout
from lab.cluster.network import NAMESPACES
from lab.kms.server import Kms, client, kms_of
from lab.kms.setup import AUTHORITIES, GATEWAYS
from lab.verify.network import within

_PEM = "-----BEGIN"


def keys_of(layout: Layout) -> tuple[bytes, ...]:
    """All private keys, in the forms that they may be seen in; none where there is no KMS."""
    kms = kms_of(layout)
    if not kms.secrets.exists():
        return ()
    # It is in the lab's Internet, and nowhere else.
    return within(NAMESPACES / layout.internet, lambda: tuple(_forms_in(kms)))


def _forms_in(kms: Kms) -> Iterator[bytes]:
    vault = client(kms)
    for project in (GATEWAYS, AUTHORITIES):
        for path in _paths(vault, project, ""):
            yield from forms(_secret(vault, project, path))


def _paths(vault: Any, project: str, folder: str) -> Iterator[str]:  # noqa: ANN401 - hvac tells no types
    try:
        listed = vault.secrets.kv.v2.list_secrets(folder, mount_point=project)
    except Exception as error:
        if type(error).__name__ != "InvalidPath":
            raise
        return
    for name in listed["data"]["keys"]:
        if name.endswith("/"):
            yield from _paths(vault, project, f"{folder}{name}")
        else:
            yield f"{folder}{name}"


def _secret(vault: Any, project: str, path: str) -> dict[str, str]:  # noqa: ANN401
    found = vault.secrets.kv.v2.read_secret_version(
        path, mount_point=project, raise_on_deleted_version=False
    )
    return dict(found["data"]["data"] or {})


def forms(secret: dict[str, str]) -> Iterator[bytes]:
    """The private keys of a secret, as text and as bytes."""
    for value in secret.values():
        if value.startswith(_PEM) and "PRIVATE KEY" in value:
            key = load_pem_private_key(value.encode(), None)
            yield key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
            # One line of it is enough to know it by.
            yield value.splitlines()[1].encode()
        elif value.startswith("{"):
            for item in json.loads(value).get("keys", {}).values():
                yield item["private"].encode()
                yield base64.b64decode(item["private"])
