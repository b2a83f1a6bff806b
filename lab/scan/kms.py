"""The keys that the KMS of a lab has, or had, so that they can be looked for elsewhere."""

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
from hvac.exceptions import InvalidPath

from lab.cluster.model import Layout
from lab.cluster.network import NAMESPACES
from lab.kms.server import Kms, client, kms_of, secret_in
from lab.kms.setup import AUTHORITIES, GATEWAYS
from lab.verify.network import within

_PEM = "-----BEGIN"


def keys_of(layout: Layout) -> tuple[bytes, ...]:
    """All private keys in the forms that they may be seen in, and what opens KMS itself."""
    kms = kms_of(layout)
    # It is in the lab's Internet, and nowhere else.
    found = within(NAMESPACES / layout.internet, lambda: [*_forms_in(kms)])
    return tuple(dict.fromkeys((*found, *opening(json.loads(kms.secrets.read_text())))))


def opening(secrets: dict[str, Any]) -> Iterator[bytes]:
    """What opens a Vault, and the token that may do everything, in the forms that both have."""
    for key in secrets["keys"]:
        yield from (key.encode(), bytes.fromhex(key))
    yield str(secrets["root_token"]).encode()


def _forms_in(kms: Kms) -> Iterator[bytes]:
    vault = client(kms)
    for project in (GATEWAYS, AUTHORITIES):
        for path in _paths(vault, project, ""):
            for secret in _versions(vault, project, path):
                yield from forms(secret)


def _paths(vault: Any, project: str, folder: str) -> Iterator[str]:  # noqa: ANN401 - hvac tells no types
    try:
        listed = vault.secrets.kv.v2.list_secrets(folder, mount_point=project)
    except InvalidPath:
        return
    for name in listed["data"]["keys"]:
        if name.endswith("/"):
            yield from _paths(vault, project, f"{folder}{name}")
        else:
            yield f"{folder}{name}"


def _versions(vault: Any, project: str, path: str) -> Iterator[dict[str, str]]:  # noqa: ANN401
    """All versions of a secret that KMS still has, those that are disabled as well."""
    kept = vault.secrets.kv.v2
    found = kept.read_secret_metadata(path, mount_point=project)["data"]["versions"]
    for number in (int(number) for number, version in found.items() if not version["destroyed"]):
        try:
            yield secret_in(vault, project, path, number)
        except InvalidPath:
            # It is disabled, perhaps just now. Who is not an administrator can't do this.
            kept.undelete_secret_versions(path, [number], project)
            try:
                yield secret_in(vault, project, path, number)
            finally:
                kept.delete_secret_versions(path, [number], project)


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
