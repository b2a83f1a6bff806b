"""Servers that speak first: their greeting is for those alone who may call."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial

from lab.check.model import BrokenError, Check, Judge, Place, Site, all_of, asking
from lab.verify.network import within
from zt.model import Port, Protocol
from zt.wellknown import ALPN

# A greeting comes at once; who gets none is waited for this long.
_SILENCE = 2.0
_PATIENCE = 10.0
_MOST_BYTES = 1 << 16
# The first byte of a record of TLS that is an alert (RFC 8446, section 5.1).
_ALERT = 0x15

Ask = Callable[[socket.socket], bytes]


def greeters(site: Site) -> Iterator[Check]:
    """What each pod gets to hear of each server that speaks first, and what its node does."""
    for destination in site.places:
        for port in destination.declared.service.ports:
            if port.protocol is Protocol.TCP:
                target = f"{destination.declared.service.name}:{port.port}"
                yield from all_of("greeting", _askers(site, destination, port, target))


def _askers(site: Site, destination: Place, port: Port, target: str) -> Iterator[tuple[str, Judge]]:
    for source in site.places:
        if source.declared is not destination.declared:
            heard = _welcome if site.may(source, destination, port.port) else _stranger
            yield f"{source.name} to {target}", partial(heard, site, source, destination, port)
    for what, ask in (("plaintext", _plain), ("TLS without a certificate", _nameless)):
        subject = f"the node to {target}, {what}"
        yield subject, partial(_from_node, site, destination, port, ask)


def _welcome(site: Site, source: Place, destination: Place, port: Port) -> str:
    asked = {**asking(port.protocol), "timeout": _PATIENCE}
    service = destination.declared.service
    host = f"{service.name}.{service.namespace}"
    answer = site.ask(source, host=host, port=port.port, **asked)
    said = answer["answer"]
    if not answer["ok"] or not isinstance(said, dict) or said.get("service") != service.name:
        raise BrokenError(f"it may, and is not greeted: {answer}")
    return f"greeted, and answered by {said.get('pod')}"


def _stranger(site: Site, source: Place, destination: Place, port: Port) -> str:
    answer = site.ask(
        source, mode="raw", host=destination.address, port=port.port, timeout=_SILENCE
    )
    return heard((answer["answer"] or "").encode("latin-1"), answer["error"] or "an alert")


def _from_node(site: Site, destination: Place, port: Port, ask: Ask) -> str:
    """The node's own processes are let in by NetworkPolicies: the sidecar alone is in the way."""
    target = (destination.address, port.port)
    plain = within(site.outside(destination), lambda: socket.create_connection(target, _PATIENCE))
    with plain:
        plain.settimeout(_SILENCE)
        return heard(ask(plain), "silent, or closed")


def heard(content: bytes, otherwise: str) -> str:
    """What was heard is nothing, or that TLS is wanted.

    Raises:
        BrokenError: if it is anything else.
    """
    if content and content[0] != _ALERT:
        raise BrokenError(f"it may not, and hears {content[:64]!r}")
    return "an alert of TLS" if content else f"nothing ({otherwise})"


def _plain(plain: socket.socket) -> bytes:
    with suppress(TimeoutError, ConnectionError):
        return plain.recv(_MOST_BYTES)
    return b""


def _nameless(plain: socket.socket) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols([ALPN])
    # The refusal comes as an alert, which is an error here, during the handshake or after it.
    with suppress(TimeoutError, OSError), context.wrap_socket(plain) as secured:
        return secured.recv(_MOST_BYTES)
    return b""
