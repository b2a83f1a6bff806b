"""Calls into the mesh: in plaintext, or with an SVID of one's choice."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.mesh.authority import KEY, SVID
from lab.mesh.folders import published
from zt.placement import Address
from zt.wellknown import ALPN

PATIENCE = 5.0
_QUESTION = b"who are you?\n"
_LONGEST_ANSWER = 4096
# A TLS record of type alert: what a port that wants TLS says to plaintext (RFC 8446, section 5.1).
_ALERT = b"\x15\x03"


class DialError(Exception):
    """A call that was neither answered nor refused; the message says what happened."""


@dataclass(frozen=True, slots=True)
class Tls:
    """How a call is secured: the SVID's context, the SNI, and the SPIFFE ID that must answer."""

    context: ssl.SSLContext
    server_name: str
    peer: str


def ask(address: Address, source: str | None, tls: Tls | None = None) -> str | None:
    """Connect from an address and ask who is there; ``None`` if the call was refused.

    Raises:
        DialError: if nobody listens, nobody answers in time, or somebody else does.
    """
    origin = (source, 0) if source else None
    try:
        connection = socket.create_connection(
            (address.host, address.port), timeout=PATIENCE, source_address=origin
        )
    except OSError as error:
        raise DialError(f"{address.host}:{address.port} can't be reached: {error}") from None
    with connection:
        try:
            return _converse(connection, tls)
        except TimeoutError:
            raise DialError(f"{address.host}:{address.port} is silent") from None
        except (ssl.SSLError, ConnectionError):
            return None


def _converse(connection: socket.socket, tls: Tls | None) -> str | None:
    if tls is None:
        return _answer(connection)
    with tls.context.wrap_socket(connection, server_hostname=tls.server_name) as secured:
        _check_peer(secured, tls.peer)
        return _answer(secured)


def _answer(connection: socket.socket) -> str | None:
    connection.sendall(_QUESTION)
    answer = b""
    while not answer.endswith(b"\n") and len(answer) < _LONGEST_ANSWER:
        part = connection.recv(_LONGEST_ANSWER)
        if not part:
            break
        answer += part
    if answer.startswith(_ALERT):
        return None
    return answer.decode("utf-8", "replace").strip() or None


def _check_peer(secured: ssl.SSLSocket, peer: str) -> None:
    certificate: dict[str, Any] = dict(secured.getpeercert() or {})
    names = [value for kind, value in certificate.get("subjectAltName", ()) if kind == "URI"]
    if names != [peer]:
        raise DialError(f"{', '.join(names) or 'nobody'} answered for {peer}")


def context(bundle: Path, svid: Path | None) -> ssl.SSLContext:
    """TLS 1.3 as a sidecar speaks it, with the SVID of a published folder or with none."""
    result = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    result.minimum_version = ssl.TLSVersion.TLSv1_3
    # The peer's name is its SPIFFE ID, which Python does not check by itself.
    result.check_hostname = False
    result.load_verify_locations(cafile=bundle)
    result.set_alpn_protocols([ALPN])
    if svid is not None:
        folder = published(svid)
        result.load_cert_chain(folder / SVID, folder / KEY)
    return result
