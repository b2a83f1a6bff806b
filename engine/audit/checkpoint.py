"""Checkpoints: signed statements of the chain's head, kept where the database's owner can't reach.

Whoever owns the database can rewrite records and chain together. A checkpoint made before tells.
Its form is that of a signed note (C2SP): the origin, the batch's number, the chain after it in
base64, an empty line, and an Ed25519 signature.
"""

from __future__ import annotations

import base64
import binascii
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from engine.audit.layout import sync_folder

ORIGIN = "zt-audit"
LATEST = "latest"
_SUFFIX = ".checkpoint"
_ED25519 = b"\x01"
_HASH, _CHAIN = 4, 32
_DASH = "\u2014"

_log = logging.getLogger(__name__)


class CheckpointError(Exception):
    """A checkpoint or its key is not what it should be; the message is one sentence."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The chain (32 bytes) after a batch."""

    number: int
    chain: bytes

    def text(self) -> str:
        """What is signed."""
        return f"{ORIGIN}\n{self.number}\n{base64.b64encode(self.chain).decode()}\n"


def read_private_key(path: Path) -> Ed25519PrivateKey:
    """Read a key to sign with: PKCS #8 in PEM.

    Raises:
        CheckpointError: if it is none.
    """
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"{path} is not a private key in PEM: {error}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise CheckpointError(f"{path} holds another key than one of Ed25519")
    return key


def read_public_key(path: Path) -> Ed25519PublicKey:
    """Read a key to verify with, in PEM.

    Raises:
        CheckpointError: if it is none.
    """
    try:
        key = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is not a public key in PEM: {error}") from None
    if not isinstance(key, Ed25519PublicKey):
        raise CheckpointError(f"{path} holds another key than one of Ed25519")
    return key


def sign(checkpoint: Checkpoint, key: Ed25519PrivateKey) -> str:
    """The signed note."""
    text = checkpoint.text()
    signature = _key_hash(key.public_key()) + key.sign(text.encode())
    return f"{text}\n{_DASH} {ORIGIN} {base64.b64encode(signature).decode()}\n"


def verify(note: str, key: Ed25519PublicKey) -> Checkpoint:
    """What a signed note says.

    Raises:
        CheckpointError: if it is not of that form, or its signature is not the key's.
    """
    text, _, lines = note.partition("\n\n")
    text += "\n"
    checkpoint = _parse(text)
    start = f"{_DASH} {ORIGIN} "
    if not lines.endswith("\n") or not lines.startswith(start):
        raise CheckpointError("the checkpoint carries no signature")
    signature = _decoded(lines[len(start) :].removesuffix("\n"))
    if signature[:_HASH] != _key_hash(key):
        raise CheckpointError("the checkpoint was signed with another key")
    try:
        key.verify(signature[_HASH:], text.encode())
    except InvalidSignature:
        raise CheckpointError("the checkpoint's signature is wrong") from None
    return checkpoint


def write(folder: Path, checkpoint: Checkpoint, key: Ed25519PrivateKey) -> None:
    """Leave a checkpoint in a folder, as a file of its own and as the latest.

    Raises:
        OSError: if it can't be written.
    """
    note = sign(checkpoint, key)
    for name in (f"{checkpoint.number:020}{_SUFFIX}", LATEST):
        _replace(folder / name, note)
    sync_folder(folder)


def read(folder: Path, key: Ed25519PublicKey) -> Iterator[Checkpoint]:
    """All checkpoints of a folder, ascending.

    Raises:
        CheckpointError: if one is not what it should be.
        OSError: if one can't be read.
    """
    for path in sorted(folder.glob(f"*{_SUFFIX}")):
        try:
            checkpoint = verify(path.read_text(encoding="utf-8"), key)
        except (CheckpointError, UnicodeDecodeError) as error:
            raise CheckpointError(f"{path}: {error}") from None
        if path.name != f"{checkpoint.number:020}{_SUFFIX}":
            raise CheckpointError(f"{path} is the checkpoint of batch {checkpoint.number}")
        yield checkpoint


class Keeper:
    """Leaves checkpoints in a folder, if there is one; the key is read anew each time."""

    def __init__(self, folder: Path | None, key: Path | None) -> None:
        """Nothing is opened before ``keep``."""
        self._folder = folder
        self._key = key
        self._number = 0

    def keep(self, checkpoint: Checkpoint) -> None:
        """Leave a checkpoint, unless it is there; a failure is logged, and tried again later."""
        if self._folder is None or self._key is None or checkpoint.number == self._number:
            return
        try:
            write(self._folder, checkpoint, read_private_key(self._key))
        except (CheckpointError, OSError) as error:
            _log.error("no checkpoint of the audit trail is left: %s", error)
        else:
            self._number = checkpoint.number


def _replace(path: Path, text: str) -> None:
    """Write a file, whole or not at all."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with draft.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _parse(text: str) -> Checkpoint:
    lines = text.split("\n")
    if len(lines) != 4 or lines[0] != ORIGIN or not lines[1].isascii() or not lines[1].isdigit():  # noqa: PLR2004 - three lines, and what is behind the last
        raise CheckpointError(f"a checkpoint is {ORIGIN!r}, a number and a chain, a line each")
    chain = _decoded(lines[2])
    if len(chain) != _CHAIN:
        raise CheckpointError(f"the checkpoint's chain has {len(chain)} bytes, not {_CHAIN}")
    checkpoint = Checkpoint(int(lines[1]), chain)
    if checkpoint.text() != text:
        raise CheckpointError("the checkpoint is not in its one form")
    return checkpoint


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise CheckpointError(f"{text!r} is not base64") from None


def _key_hash(key: Ed25519PublicKey) -> bytes:
    raw = key.public_bytes_raw()
    return sha256(ORIGIN.encode() + b"\n" + _ED25519 + raw).digest()[:_HASH]
