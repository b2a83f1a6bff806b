"""The evaluator's own SVID, from files that rotate: mutual TLS for its ports.

Each handshake is with the files as they are then. There is no resumption, so that no session
outlives the trust that it began with.
"""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from zt.spiffe import SCHEME

CERTIFICATE = "svid.pem"
KEY = "svid_key.pem"
BUNDLE = "bundle.pem"

_log = logging.getLogger(__name__)

Stats = tuple[tuple[int, int, int], ...]


class SvidError(Exception):
    """The SVID can't be used; the message is one sentence."""


class Svid(NamedTuple):
    """Private key, certificate (with its chain) and trust bundle, in PEM."""

    key: bytes
    certificate: bytes
    bundle: bytes


class SvidFiles:
    """The files of one folder; a bad change leaves the last good ones in use."""

    def __init__(self, folder: Path) -> None:
        """Read the files.

        Raises:
            SvidError: if one is missing, or they do not belong together.
        """
        self._folder = folder
        self._seen = self._stats()
        self.current = self._read()

    def refresh(self) -> bool:
        """Look for changes; whether ``current`` is another now."""
        try:
            seen = self._stats()
            if seen == self._seen:
                return False
            read = self._read()
        except SvidError as error:
            # Looked at again by the next handshake: the writer may be between two files.
            _log.warning("the SVID in use stays: %s", error)
            return False
        self._seen = seen
        self.current = read
        return True

    def server_context(self, protocols: Sequence[str], *, mutual: bool = True) -> ssl.SSLContext:
        """TLS for a port, ``mutual`` or of clients without a certificate; ALPN for ``protocols``.

        A context can't take back a CA, so each change of the files makes another, which the
        handshake is moved to before any certificate is looked at.
        """
        used = self.current
        first = latest = context_of(used, protocols, mutual=mutual)

        def choose(connection: ssl.SSLObject, _: str | None, __: ssl.SSLContext) -> None:
            nonlocal used, latest
            self.refresh()
            if self.current is not used:
                used = self.current
                latest = context_of(used, protocols, mutual=mutual)
            if latest is not first:
                connection.context = latest

        # Called whether or not the client names a server.
        first.sni_callback = choose
        return first

    def _stats(self) -> Stats:
        try:
            stats = [(self._folder / name).stat() for name in (CERTIFICATE, KEY, BUNDLE)]
        except OSError as error:
            raise SvidError(f"{error.filename} cannot be read: {error.strerror}") from None
        return tuple((stat.st_mtime_ns, stat.st_size, stat.st_ino) for stat in stats)

    def _read(self) -> Svid:
        return checked(Svid(*map(self._bytes, (KEY, CERTIFICATE, BUNDLE))), str(self._folder))

    def _bytes(self, name: str) -> bytes:
        try:
            return (self._folder / name).read_bytes()
        except OSError as error:
            raise SvidError(f"{error.filename} cannot be read: {error.strerror}") from None


def checked(svid: Svid, where: str) -> Svid:
    """An SVID whose parts belong together and that TLS takes; ``where`` it is, for errors.

    Raises:
        SvidError: if it is none.
    """
    try:
        public = x509.load_pem_x509_certificate(svid.certificate).public_key()
        belongs = load_pem_private_key(svid.key, password=None).public_key() == public
        x509.load_pem_x509_certificates(svid.bundle)
    except (ValueError, TypeError) as error:
        raise SvidError(f"{where} holds no SVID in PEM: {error}") from None
    if not belongs:
        raise SvidError(f"{where} holds a {KEY} that is not the key of {CERTIFICATE}")
    try:
        context_of(svid, ())
    except (ssl.SSLError, ValueError) as error:
        raise SvidError(f"{where} holds an SVID that TLS refuses: {error}") from None
    return svid


def context_of(svid: Svid, protocols: Sequence[str], *, mutual: bool = True) -> ssl.SSLContext:
    """TLS 1.3, as the mesh speaks it; ``mutual``: a client has a certificate by the bundle.

    Raises:
        ssl.SSLError: if OpenSSL refuses a part of the SVID.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED if mutual else ssl.CERT_NONE
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET
    if protocols:
        context.set_alpn_protocols(list(protocols))
    context.load_verify_locations(cadata=svid.bundle.decode("ascii", errors="ignore"))
    # Keys are loaded from files alone; this one is memory, and holds just what has been checked.
    handle = os.memfd_create("svid")
    try:
        with os.fdopen(handle, "wb", closefd=False) as file:
            file.write(svid.certificate + b"\n" + svid.key)
        context.load_cert_chain(f"/proc/self/fd/{handle}")
    finally:
        os.close(handle)
    return context


class Peer(NamedTuple):
    """A client by its certificate: its SPIFFE ID, empty if it has none, and when that ends.

    ``until`` is in seconds since the epoch.
    """

    spiffe: str
    until: float


def peer_of(connection: ssl.SSLObject) -> Peer:
    """The client of a finished handshake. An SVID has exactly one URI (SPIFFE X.509-SVID, 2)."""
    certificate: dict[str, Any] = connection.getpeercert() or {}
    uris = [value for kind, value in certificate.get("subjectAltName", ()) if kind == "URI"]
    spiffe = uris[0] if len(uris) == 1 and uris[0].startswith(SCHEME) else ""
    return Peer(spiffe, ssl.cert_time_to_seconds(certificate["notAfter"]))
