"""Where the SVID lies that the agent gave: three files in memory, which the ports follow."""

from __future__ import annotations

import ctypes
import os
import ssl
import struct
from pathlib import Path

from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from engine.files import write_whole
from engine.spire.messages import Given
from engine.tls import BUNDLE, CERTIFICATE, KEY, Svid, SvidError, checked

_TMPFS, _RAMFS = 0x01021994, 0x858458F6
_PRIVATE = 0o600
# DER: a certificate is a SEQUENCE, whose length is one byte, or its number of bytes and those.
_SEQUENCE, _LONG, _LENGTHS = 0x30, 0x80, 4


def make_folder(folder: Path, *, memory: bool) -> None:
    """The folder for the SVID, for nobody else; in ``memory`` unless that is not asked for.

    Raises:
        SvidError: if it can't be made, or lies on a disk.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        in_memory = _file_system(folder) in (_TMPFS, _RAMFS)
    except OSError as error:
        raise SvidError(
            f"{folder} cannot be made: {error.strerror}; mount an emptyDir of medium Memory there, "
            "or set ZT_SVID_PATH"
        ) from None
    if memory and not in_memory:
        raise SvidError(
            f"{folder} is not in memory, and a private key must touch no disk: mount an emptyDir "
            "of medium Memory there, or set ZT_SVID_STORAGE=any on a developer's machine"
        )


def store(folder: Path, given: Given) -> None:
    """Write an SVID for the ports to take, if TLS does; the three files agree but for a moment.

    Raises:
        SvidError: if it can't be used or written; the last one is then still there.
    """
    svid = checked(_pem(given), f"what the agent gave for {given.spiffe}")
    try:
        write_whole(folder / BUNDLE, svid.bundle)
        write_whole(folder / KEY, svid.key, _PRIVATE)
        write_whole(folder / CERTIFICATE, svid.certificate)
    except OSError as error:
        raise SvidError(f"{folder} cannot be written: {error.strerror}") from None


def _pem(given: Given) -> Svid:
    try:
        key = load_der_private_key(given.key, password=None)
        return Svid(
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
            _certificates(given.chain),
            _certificates(given.bundle),
        )
    except (ValueError, TypeError, struct.error) as error:
        raise SvidError(f"the agent gave no SVID in DER for {given.spiffe}: {error}") from None


def _certificates(der: bytes) -> bytes:
    """Certificates that follow each other, in PEM."""
    found = []
    while der:
        end = _length(der)
        if der[0] != _SEQUENCE or end > len(der):
            raise ValueError("a certificate is cut off")
        found.append(ssl.DER_cert_to_PEM_cert(der[:end]))
        der = der[end:]
    return "".join(found).encode()


def _length(der: bytes) -> int:
    """Bytes of the first value, with its head."""
    short = der[1] if len(der) > 1 else _LONG
    if short < _LONG:
        return 2 + short
    count = short - _LONG
    if not 0 < count <= _LENGTHS:
        raise ValueError("a certificate has no length")
    return 2 + count + int.from_bytes(der[2 : 2 + count])


def _file_system(folder: Path) -> int:
    """The number of the kind of file system, statfs(2)'s ``f_type``: its first word."""
    libc = ctypes.CDLL(None, use_errno=True)
    found = ctypes.create_string_buffer(256)
    if libc.statfs(os.fsencode(folder), found) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(folder))
    (kind,) = struct.unpack_from("@l", found)
    return int(kind) & 0xFFFFFFFF
