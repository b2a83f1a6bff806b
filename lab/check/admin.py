"""Asks the admin interface of a pod's Envoy, which only root and the sidecar itself can open."""

from __future__ import annotations

import http.client
import socket
from contextlib import closing

from lab.check.model import BrokenError
from zt.wellknown import SIDECAR_RUN

_PATIENCE = 5.0
_OK = 200


class _Connection(http.client.HTTPConnection):
    """HTTP over a socket of the file system."""

    def __init__(self, path: str) -> None:
        super().__init__("admin", timeout=_PATIENCE)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def asked(process: int, name: str, path: str) -> bytes:
    """What the Envoy of a process says; ``name`` is what its pod is called.

    Raises:
        LabError: if it refuses.
        OSError: if it can't be reached.
    """
    # The root of a container, as /proc shows it, needs no entering.
    return told(f"/proc/{process}/root{SIDECAR_RUN}/admin.sock", name, path)


def told(where: str, name: str, path: str) -> bytes:
    """What the Envoy says whose admin interface is a socket.

    Raises:
        LabError: if it refuses.
        OSError: if it can't be reached.
    """
    with closing(_Connection(where)) as connection:
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            content = answer.read()
        except http.client.HTTPException as error:
            raise BrokenError(f"Envoy of {name} answers no HTTP: {error!r}") from None
    if answer.status != _OK:
        raise BrokenError(f"Envoy of {name} answers {answer.status} to {path}")
    return content
