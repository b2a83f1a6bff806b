"""The evaluator's own SVID, from files that rotate, for its gRPC port."""

from __future__ import annotations

import logging
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

CERTIFICATE = "svid.pem"
KEY = "svid_key.pem"
BUNDLE = "bundle.pem"

_log = logging.getLogger(__name__)

Stats = tuple[tuple[int, int, int], ...]


class SvidError(Exception):
    """The SVID can't be used; the message is one sentence."""


class SvidFiles:
    """The files of one folder. gRPC asks for them at each handshake, from threads of its own."""

    def __init__(self, folder: Path) -> None:
        """Read the files.

        Raises:
            SvidError: if one is missing, or they do not belong together.
        """
        self._folder = folder
        self._seen = self._stats()
        self._first = self._read()

    def credentials(self) -> grpc.ServerCredentials:
        """Mutual TLS; each handshake is with the files as they are then."""
        return grpc.dynamic_ssl_server_credentials(
            self._first,
            self._fetch,  # type: ignore[arg-type] # may give None, which the stubs do not know
            require_client_authentication=True,
        )

    def _fetch(self) -> grpc.ServerCertificateConfiguration | None:
        """What changed since the last handshake; a bad change leaves the last good files in use."""
        try:
            seen = self._stats()
            if seen == self._seen:
                return None
            read = self._read()
        except SvidError as error:
            # Seen again at the next handshake: the writer may be between two files.
            _log.warning("the SVID in use stays: %s", error)
            return None
        self._seen = seen
        return read

    def _stats(self) -> Stats:
        try:
            stats = [(self._folder / name).stat() for name in (CERTIFICATE, KEY, BUNDLE)]
        except OSError as error:
            raise SvidError(f"{error.filename} cannot be read: {error.strerror}") from None
        return tuple((stat.st_mtime_ns, stat.st_size, stat.st_ino) for stat in stats)

    def _read(self) -> grpc.ServerCertificateConfiguration:
        certificate, key, bundle = map(self._bytes, (CERTIFICATE, KEY, BUNDLE))
        try:
            public = x509.load_pem_x509_certificate(certificate).public_key()
            belongs = load_pem_private_key(key, password=None).public_key() == public
            x509.load_pem_x509_certificates(bundle)
        except ValueError as error:
            raise SvidError(f"{self._folder} holds no SVID in PEM: {error}") from None
        if not belongs:
            raise SvidError(f"{self._folder / KEY} is not the key of {CERTIFICATE}")
        return grpc.ssl_server_certificate_configuration(
            [(key, certificate)], root_certificates=bundle
        )

    def _bytes(self, name: str) -> bytes:
        try:
            return (self._folder / name).read_bytes()
        except OSError as error:
            raise SvidError(f"{error.filename} cannot be read: {error.strerror}") from None
