"""What gateways tell each other, over the tunnel itself: each asks its peers, again and again.

Whoever answers from a peer's address in the tunnel has a key that the tunnel knows, or WireGuard
would not let its packets through. So it is alive; what it offers counts as heard only if it is
attested (``gateway.tunnel.attestation``).
"""

from __future__ import annotations

import http.client
import logging
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

from gateway.once import Once
from gateway.svid import Source
from gateway.tunnel.attestation import (
    HEADER,
    Claim,
    UnattestedError,
    attest,
    check,
    is_nonce,
    new_nonce,
)
from gateway.tunnel.book import Offer, offer_of
from gateway.tunnel.errors import TunnelError
from gateway.tunnel.peers import Peer

PORT = 9587
PATH = "/v1/tunnel"
_PATIENCE = 1.5
_MOST_BYTES = 1 << 16
_OK = 200
_JSON = "application/json"
# An address may be bound before an interface has it (ip(7)).
_IP_FREEBIND = 15

_log = logging.getLogger(__name__)


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


class Reply(NamedTuple):
    """What is answered."""

    status: int
    kind: str
    text: str
    headers: Mapping[str, str] = {}


# What a page is asked, behind the question mark.
Page = Callable[[str], Reply]


def serve(address: str, port: int, pages: dict[str, Page]) -> ThreadingHTTPServer:
    """Serve pages by path, in a thread of its own, until it is shut down.

    Raises:
        OSError: if the port is taken.
    """

    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            page = pages.get(path)
            reply = page(query) if page else Reply(404, "text/plain", "there is no such page\n")
            content = reply.text.encode()
            self.send_response(reply.status)
            self.send_header("Content-Type", reply.kind)
            self.send_header("Content-Length", str(len(content)))
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            return

    server = _Server((address, port), Handler)
    threading.Thread(target=server.serve_forever, name=f"{address}:{port}", daemon=True).start()
    return server


def offer_page(offer: Callable[[], str | None], cluster: str, svids: Source) -> Page:
    """The page that peers ask, with the number that they want to see signed as its query.

    Without an SVID it answers all the same: then it is alive, and not attested.
    """

    def page(query: str) -> Reply:
        text = offer()
        if text is None:
            return Reply(503, "text/plain", "not yet\n")
        identity = svids()
        if identity is None or not is_nonce(query):
            return Reply(_OK, _JSON, text)
        word = attest(identity, Claim(cluster, query, text))
        return Reply(_OK, _JSON, text, {HEADER: word})

    return page


class Answer(NamedTuple):
    """What a gateway answered: its offer as it was sent, and its word for it if it gave one."""

    offer: str
    attestation: str | None


def ask(address: str, own: str, nonce: str, port: int = PORT) -> Answer:
    """Ask a gateway, from the own address in the tunnel.

    Raises:
        TunnelError: if it does not answer.
    """
    connection = http.client.HTTPConnection(
        address, port, timeout=_PATIENCE, source_address=(own, 0)
    )
    with closing(connection):
        try:
            connection.request("GET", f"{PATH}?{nonce}")
            answer = connection.getresponse()
            text = answer.read(_MOST_BYTES).decode()
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise TunnelError(f"{address} does not answer: {error!r}") from None
    if answer.status != _OK:
        raise TunnelError(f"{address} answers {answer.status}")
    return Answer(text, answer.getheader(HEADER))


@dataclass
class Asker:
    """Asks one peer for ever, in a thread of its own. ``told`` is called after each answer.

    Attributes:
        heard: What the peer told last that was attested.
        answered: When it answered last, attested or not, by the monotonic clock.
        unattested: How many answers were not.
    """

    peer: Peer
    own: str
    svids: Source
    told: Callable[[], None]
    pause: Callable[[], float]
    heard: Offer | None = None
    answered: float | None = None
    unattested: int = 0
    _problems: Once = field(default_factory=Once)
    _ended: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        """Begin."""
        threading.Thread(target=self._run, name=f"asks {self.peer.cluster}", daemon=True).start()

    def end(self) -> None:
        """Ask no more."""
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.is_set():
            nonce = new_nonce()
            try:
                answer = ask(self.peer.address, self.own, nonce)
                offer = offer_of(answer.offer)
            except TunnelError:
                # That it is silent is seen by its age.
                pass
            else:
                self.take(nonce, answer, offer)
                self.told()
            self._ended.wait(self.pause())

    def take(self, nonce: str, answer: Answer, offer: Offer) -> None:
        """Take an answer for a sign of life, and for what it says if that is attested."""
        claim, now = Claim(self.peer.cluster, nonce, answer.offer), datetime.now(UTC)
        try:
            check(answer.attestation, claim, self.peer.spiffe, self.svids(), now)
        except UnattestedError as error:
            self.unattested += 1
            self._say(str(error))
        else:
            self.heard = offer
            self._say(None)
        self.answered = time.monotonic()

    def _say(self, problem: str | None) -> None:
        """Say what is wrong once, and that it is right again."""
        if not self._problems.note(problem):
            return
        cluster = self.peer.cluster
        if problem is None:
            _log.info("what %s tells is attested by %s", cluster, self.peer.spiffe)
        else:
            _log.warning("nothing is learned of %s: %s", cluster, problem)
