"""Opens the store that a program's arguments name."""

from __future__ import annotations

import argparse
from pathlib import Path
from urllib.parse import urlsplit

from gateway.keys.directory import Directory
from gateway.keys.store import KeyStore, MalformedError
from gateway.keys.vault import Access, Vault

# Seconds that a store may take to be there again.
PATIENCE = 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the store is, and how to come in."""
    parser.add_argument("--address", required=True, help="URL of KMS; file:///... is a folder.")
    parser.add_argument("--project", required=True)
    parser.add_argument("--token-file", type=Path, help="A token of this pod's service account.")
    parser.add_argument(
        "--auth",
        default="kubernetes",
        help="Where KMS takes the token: its auth mount; `token` if it is a token of KMS's own.",
    )
    parser.add_argument("--role", default="", help="Of that mount; the project's name by default.")
    parser.add_argument("--authority", default="", help="CA of KMS as PEM; no other is trusted.")
    parser.add_argument("--namespace", default="")


def store_of(arguments: argparse.Namespace, patience: float = PATIENCE) -> KeyStore:
    """The store that parsed arguments name."""
    return open_store(
        arguments.address,
        arguments.project,
        arguments.token_file,
        auth=arguments.auth,
        role=arguments.role,
        authority=arguments.authority,
        namespace=arguments.namespace,
        patience=patience,
    )


def open_store(  # noqa: PLR0913 - what a stack says of a store
    address: str,
    project: str,
    token_file: Path | None,
    *,
    auth: str = "kubernetes",
    role: str = "",
    authority: str = "",
    namespace: str = "",
    patience: float = PATIENCE,
) -> KeyStore:
    """The store at an address; nothing is asked of it yet.

    It is tried again for ``patience`` seconds where that makes sense: while it is sealed or does
    not answer.

    Raises:
        MalformedError: if it would not be asked by https.
    """
    parts = urlsplit(address)
    if parts.scheme not in {"https", "file"}:
        raise MalformedError(f"KMS at {address!r} is not asked: keys travel by https alone")
    if parts.scheme == "file":
        return Directory(Path(parts.path) / project)
    access = Access(token_file, auth, role or project, namespace)
    return Vault(address, project, access, authority, patience)
