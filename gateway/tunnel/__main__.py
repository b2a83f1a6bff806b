"""``python3 -m gateway.tunnel``: has the tunnel of this gateway be as its stack and KMS say."""

from __future__ import annotations

import argparse
import logging
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TypeVar

from gateway.keys import KeyStoreError, MalformedError, add_arguments, store_of
from gateway.once import Once
from gateway.svid import SvidError, source_of
from gateway.tunnel import control, talk, wg
from gateway.tunnel.book import Book, new_book
from gateway.tunnel.errors import TunnelError
from gateway.tunnel.interface import Interfaces
from gateway.tunnel.metrics import CONTENT_TYPE, render
from gateway.tunnel.peers import Tunnel, read_tunnel
from gateway.tunnel.rotate import Gateway, status
from gateway.tunnel.rotation import Times
from gateway.tunnel.store import InKms, Store, delivered

METRICS = 9586
_SHORTEST, _LONGEST = 1.0, 30.0
_RUNNING = 2.0
_T = TypeVar("_T")

_log = logging.getLogger("gateway.tunnel")


def main(arguments: list[str] | None = None) -> int:
    """Run the tunnel until the pod ends."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    found = _parsed(arguments)
    signal.signal(signal.SIGTERM, _end)
    tunnel, svids = read_tunnel(found.peers), source_of(found.svid)
    book = _tried(
        lambda: _book(found.keys, InKms(store_of(found), found.path)),
        "the tunnel waits for its key",
    )
    gateway = Gateway(
        peers_file=found.peers,
        # A tunnel that is up waits for nobody.
        store=InKms(store_of(found, _RUNNING), found.path),
        interfaces=Interfaces(wg.Maker(found.keys)),
        times=Times(found.drain, found.patience),
        book=book,
        tunnel=tunnel,
        svids=svids,
    )
    _serve(gateway, tunnel, found.keys, found.metrics_port)
    _run(gateway)


def _parsed(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python3 -m gateway.tunnel")
    parser.add_argument("--peers", type=Path, required=True, help="what the stack mounts")
    parser.add_argument("--keys", type=Path, required=True, help="a folder in memory")
    parser.add_argument("--path", required=True, help="of the secret in its project")
    parser.add_argument("--svid", required=True, help="unix:///... of the SPIRE agent, or file:///")
    parser.add_argument("--drain", type=float, default=Times.drain, help="seconds")
    parser.add_argument("--patience", type=float, default=Times.patience, help="seconds")
    parser.add_argument("--metrics-port", type=int, default=METRICS)
    add_arguments(parser)
    return parser.parse_args(arguments)


def _book(folder: Path, store: Store) -> Book:
    """What the init step left, or KMS has; the first time, a new key that KMS gets to keep."""
    book = delivered(folder) or store.load()
    if book is None:
        book = new_book(wg.new_key(time.time()), time.time())
        store.save(book)
        _log.info("a key was made: %s", book.keys[0].public)
    return book


def _tried(do: Callable[[], _T], why: str) -> _T:
    """Do it, again if KMS is not there or not ready, and say so each time.

    Raises:
        KeyStoreError: if trying again would not help.
    """
    pause = _SHORTEST
    while True:
        try:
            return do()
        except KeyStoreError as error:
            if isinstance(error, MalformedError):
                raise
            _log.error("%s: %s", why, error)
        time.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - no secret
        pause = min(2 * pause, _LONGEST)


def _serve(gateway: Gateway, tunnel: Tunnel, folder: Path, port: int) -> None:
    offered = talk.offer_page(gateway.offer, tunnel.cluster, gateway.svids)
    talk.serve(tunnel.own, talk.PORT, {talk.PATH: offered})
    pages: dict[str, talk.Page] = {
        "/metrics": lambda _: talk.Reply(200, CONTENT_TYPE, render(gateway.sample())),
        "/healthz": lambda _: talk.Reply(200, "text/plain", "ok\n"),
    }
    talk.serve("", port, pages)

    def begin() -> dict[str, object]:
        gateway.begin()
        return {}

    def call_off() -> dict[str, object]:
        gateway.call_off()
        return {}

    commands = {"status": lambda: status(gateway), "rotate": begin, "call-off": call_off}
    control.listen(folder, commands)


def _run(gateway: Gateway) -> NoReturn:
    """Look at everything again and again; what fails is said, and tried again."""
    problems = Once()
    while True:
        try:
            gateway.tick()
        except (TunnelError, KeyStoreError) as error:
            if problems.note(str(error)):
                _log.error("the tunnel stays as it is: %s", error)
        else:
            problems.note(None)
        gateway.woken.wait(gateway.pause)
        gateway.woken.clear()


def _end(*_: object) -> NoReturn:
    raise SystemExit(0)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (TunnelError, KeyStoreError, SvidError) as problem:
        sys.exit(f"gateway.tunnel: {problem}")
