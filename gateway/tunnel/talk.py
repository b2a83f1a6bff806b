"""What gateways tell each other, over the tunnel itself: each asks its peers, again and again.

Whoever answers from a peer's address in the tunnel has that peer's present key, or WireGuard would
not let its packets through: so a new key is attested by the one before it.
"""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from gateway.tunnel.book import Offer, offer_of
from gateway.tunnel.errors import TunnelError
from gateway.tunnel.peers import Peer

PORT = 9587
PATH = "/v1/tunnel"
_PATIENCE = 1.5
_MOST_BYTES = 1 << 16
_OK = 200
# An address may be bound before an interface has it (ip(7)).
_IP_FREEBIND = 15


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.SOL_IP, _IP_FREEBIND, 1)
        # Without asking DNS for a name, as the class it is of does.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]


Page = Callable[[], tuple[int, str, str]]


def serve(address: str, port: int, pages: dict[str, Page]) -> ThreadingHTTPServer:
    """Serve pages (status, type, text) by path, in a thread of its own, until it is shut down.

    Raises:
        OSError: if the port is taken.
    """

    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:
            page = pages.get(self.path.partition("?")[0])
            status, kind, text = page() if page else (404, "text/plain", "there is no such page\n")
            content = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            return

    server = _Server((address, port), Handler)
    threading.Thread(target=server.serve_forever, name=f"{address}:{port}", daemon=True).start()
    return server


def ask(address: str, own: str, port: int = PORT) -> Offer:
    """Ask a gateway, from the own address in the tunnel.

    Raises:
        TunnelError: if it does not answer, or says what is no offer.
    """
    connection = http.client.HTTPConnection(
        address, port, timeout=_PATIENCE, source_address=(own, 0)
    )
    with closing(connection):
        try:
            connection.request("GET", PATH)
            answer = connection.getresponse()
            text = answer.read(_MOST_BYTES).decode()
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise TunnelError(f"{address} does not answer: {error!r}") from None
    if answer.status != _OK:
        raise TunnelError(f"{address} answers {answer.status}")
    return offer_of(text)


@dataclass(frozen=True)
class Heard:
    """What a peer told last; ``at`` by the monotonic clock, when it did."""

    offer: Offer
    at: float


@dataclass
class Asker:
    """Asks one peer for ever, in a thread of its own. ``told`` is called after each answer."""

    peer: Peer
    own: str
    told: Callable[[], None]
    pause: Callable[[], float]
    heard: Heard | None = None
    _ended: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        """Begin."""
        threading.Thread(target=self._run, name=f"asks {self.peer.cluster}", daemon=True).start()

    def end(self) -> None:
        """Ask no more."""
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                self.heard = Heard(ask(self.peer.address, self.own), time.monotonic())
            except TunnelError:
                # That it is silent is seen by its age.
                pass
            else:
                self.told()
            self._ended.wait(self.pause())
