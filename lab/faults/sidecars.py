"""What the sidecar of a pod knows, asked on its admin socket, which only its machine can reach."""

from __future__ import annotations

import base64
import http.client
import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography import x509

from lab.cluster.model import LabError
from zt.wellknown import SIDECAR_RUN

Json = dict[str, Any]

_SECRETS = "/config_dump?resource=dynamic_active_secrets"
_LISTENERS = "/listeners?format=json"
_PATIENCE = 5.0


@dataclass(frozen=True, slots=True)
class Svid:
    """An SVID in use, and the CA that issued it, by their serial numbers."""

    serial: int
    issuer: int
    expires: datetime


class _Connection(http.client.HTTPConnection):
    """HTTP over a socket in the file system."""

    def __init__(self, path: Path) -> None:
        super().__init__("admin", timeout=_PATIENCE)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_PATIENCE)
        # A socket's path is short: that of a process's own folder always is.
        self.sock.connect(str(self._path))


def asked(process: int, path: str) -> Any:  # noqa: ANN401 - any JSON
    """What Envoy's admin interface answers; ``process`` is Envoy's.

    Raises:
        LabError: if it does not answer.
    """
    with closing(_Connection(Path(f"/proc/{process}/root{SIDECAR_RUN}/admin.sock"))) as connection:
        try:
            connection.request("GET", path)
            return json.loads(connection.getresponse().read())
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise LabError(f"the sidecar of process {process} does not answer: {error}") from None


def svid(process: int) -> Svid:
    """The SVID that a sidecar uses.

    Raises:
        LabError: if it does not answer, or has none.
    """
    chain = _chain(asked(process, _SECRETS))
    if chain is None:
        raise LabError(f"the sidecar of process {process} has no SVID")
    return chain


def listeners(process: int) -> frozenset[str]:
    """Names of the listeners that a sidecar has.

    Raises:
        LabError: if it does not answer.
    """
    found = asked(process, _LISTENERS).get("listener_statuses", ())
    return frozenset(item["name"] for item in found)


def _chain(dump: Mapping[str, Any]) -> Svid | None:
    for text in _chains(dump):
        leaf, *above = x509.load_pem_x509_certificates(text)
        issuer = above[0].serial_number if above else 0
        return Svid(leaf.serial_number, issuer, leaf.not_valid_after_utc)
    return None


def _chains(dump: Mapping[str, Any]) -> Iterator[bytes]:
    for item in dump.get("configs", ()):
        chain = item.get("secret", {}).get("tls_certificate", {}).get("certificate_chain", {})
        if "inline_bytes" in chain:
            yield base64.b64decode(chain["inline_bytes"])
