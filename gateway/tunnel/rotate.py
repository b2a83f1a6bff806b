"""Runs a tunnel: hears its peers, takes the next step, keeps it, and only then acts on it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from gateway.keys import KeyStoreError
from gateway.svid import Source
from gateway.tunnel import wg
from gateway.tunnel.book import LANES, Book
from gateway.tunnel.errors import TunnelError
from gateway.tunnel.interface import Interfaces, is_strict
from gateway.tunnel.metrics import PeerSample, Sample
from gateway.tunnel.peers import Peer, Tunnel, read_tunnel
from gateway.tunnel.rotation import Seen, Times, advance, begin, call_off
from gateway.tunnel.store import Store
from gateway.tunnel.talk import Asker

# A session is renewed after two minutes, and ends after three.
_FRESH = 180.0
# A peer that has not answered for so long is down; so long a lane is silent before it goes.
_DOWN = 8.0
_QUIET = 3.0
# How often peers are asked, when nothing happens and during a rotation.
_CALM, _BUSY = 2.0, 0.25
# How long KMS is left alone after it failed.
_KMS_PAUSE = 5.0

_log = logging.getLogger(__name__)


@dataclass
class Gateway:
    """A gateway's tunnel. One thread calls ``tick``; others may ask for what they see.

    ``book`` is what has been kept, ``done`` what has been acted on as well; a gateway that comes
    back tells its peers nothing before that.
    """

    peers_file: Path
    store: Store
    interfaces: Interfaces
    times: Times
    book: Book
    tunnel: Tunnel
    svids: Source
    done: Book | None = None
    woken: threading.Event = field(default_factory=threading.Event)
    store_failing: bool = False
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _askers: dict[str, Asker] = field(default_factory=dict)
    _last: dict[tuple[int, str], tuple[int, float]] = field(default_factory=dict)
    _redialled: dict[str, float] = field(default_factory=dict)
    _applied: bool = False
    _again: float = 0.0

    # --- What others ask --------------------------------------------------------------------------

    def offer(self) -> str | None:
        """What peers are told, as JSON: only of what has been done; ``None`` before that."""
        askers = list(self._askers.items())
        heard = {name: asker.heard.step for name, asker in askers if asker.heard}
        return self.done.offer(heard).text() if self.done else None

    def sample(self) -> Sample:
        """Its metrics. Like the offer it waits for nobody: KMS may take its time."""
        book = self.book
        return Sample(
            peers=tuple(map(self._peer_sample, self.tunnel.peers)),
            key_age=max(time.time() - book.keys[book.sending].created, 0.0),
            step=book.step,
            store_failing=self.store_failing,
        )

    def begin(self) -> None:
        """Begin a rotation.

        Raises:
            TunnelError: if one is under way, or packets would be lost.
            KeyStoreError: if the new key can't be kept.
        """
        if is_strict():
            raise TunnelError("rp_filter is 1 here: packets would be lost; make it 0 or 2")
        with self._lock:
            self._keep(begin(self.book, wg.new_key(time.time()), time.time()))
        self.woken.set()

    def call_off(self) -> None:
        """Call the rotation off that was begun here.

        Raises:
            TunnelError: if there is none, or it is too late.
            KeyStoreError: if that can't be kept.
        """
        with self._lock:
            self._keep(call_off(self.book, time.time()))
        self.woken.set()

    @property
    def pause(self) -> float:
        """Seconds between two looks at everything."""
        return _CALM if self.book.step is None else _BUSY

    # --- What it does -----------------------------------------------------------------------------

    def tick(self) -> None:
        """Look at everything once, and do what is to be done.

        Raises:
            TunnelError: if it can't; the tunnel then stays as it is.
        """
        with self._lock:
            self._read()
            if not self._applied:
                self._act()
            self.interfaces.look()
            self._ask()
            self._find_again()
            self._learn()
            self._step()

    def _read(self) -> None:
        """Follow the file of peers; one that can't be read changes nothing."""
        try:
            found = read_tunnel(self.peers_file)
        except TunnelError as error:
            _log.error("the peers stay as they were: %s", error)
            return
        if found != self.tunnel:
            self.tunnel, self._applied = found, False

    def _act(self) -> None:
        self.interfaces.apply(self.book, self.tunnel)
        self.done, self._applied = self.book, True

    def _ask(self) -> None:
        """Somebody who asks each peer, and nobody else."""
        wanted = {peer.cluster: peer for peer in self.tunnel.peers}
        for cluster in self._askers.keys() - wanted.keys():
            self._askers.pop(cluster).end()
        for cluster, peer in wanted.items():
            asker = self._askers.get(cluster)
            # One that has another key for the stack began anew: what it told is forgotten.
            if asker is None or asker.peer != peer:
                if asker:
                    asker.end()
                own, pause = self.tunnel.own, lambda: self.pause
                found = Asker(peer, own, self.svids, self.woken.set, pause)
                self._askers[cluster] = found
                found.start()

    def _find_again(self) -> None:
        """Where a peer is, if it does not answer: its address may be another now."""
        now = time.monotonic()
        for peer in self.tunnel.peers:
            if not self._is_up(peer) and now - self._redialled.get(peer.cluster, 0.0) > _DOWN:
                self._redialled[peer.cluster] = now
                self.interfaces.find_again(peer.cluster)
                self._applied = False

    def _learn(self) -> None:
        """Keep the keys that peers tell, if they are attested, before they are used."""
        told = {name: dict(asker.heard.keys) for name, asker in self._askers.items() if asker.heard}
        stack = {peer.cluster: peer.public for peer in self.tunnel.peers}
        peers = {n: keys for n, keys in {**self.book.peers, **told}.items() if n in stack}
        known = {n: key for n, key in self.book.stack.items() if n in stack}
        known |= {n: stack[n] for n in told}
        self._keep(replace(self.book, peers=peers, stack=known))

    def _step(self) -> None:
        seen = {peer.cluster: self._seen(peer) for peer in self.tunnel.peers}
        book = advance(self.book, self.tunnel.cluster, seen, time.time(), self.times)
        is_over = self.book.step is not None and book.step is None
        self._keep(book)
        if not self._applied:
            self._act()
        if is_over:
            self._forget()

    def _keep(self, book: Book) -> None:
        """Nothing is done that is not kept: whoever restarts goes on where it was."""
        if book == self.book:
            return
        if time.monotonic() < self._again:
            raise TunnelError("the next step waits for KMS")
        try:
            self.store.save(book)
        except KeyStoreError:
            self.store_failing, self._again = True, time.monotonic() + _KMS_PAUSE
            raise
        self.store_failing = False
        if book.step is not self.book.step:
            _log.info("rotation: %s", book.step.value if book.step else "none is under way")
        self.book, self._applied = book, False

    def _forget(self) -> None:
        try:
            self.store.forget()
        except KeyStoreError as error:
            _log.error("KMS still has keys that are used no more: %s", error)

    # --- What it sees -----------------------------------------------------------------------------

    def _seen(self, peer: Peer) -> Seen:
        asker = self._askers.get(peer.cluster)
        return Seen(
            offer=asker.heard if asker else None,
            fresh={lane: self._is_fresh(peer, lane) for lane in LANES},
            quiet=self._is_quiet(peer),
        )

    def _state(self, peer: Peer, lane: int) -> wg.PeerState | None:
        public = self.book.peers.get(peer.cluster, {0: peer.public}).get(lane)
        found = self.interfaces.states.get(lane)
        return found.peers.get(public) if found and public else None

    def _is_fresh(self, peer: Peer, lane: int) -> bool:
        found = self._state(peer, lane)
        return found is not None and time.time() - found.handshake < _FRESH

    def _is_quiet(self, peer: Peer) -> bool:
        """Whether nothing has come from it on the lane that is left, for a while."""
        found, now = self._state(peer, self.book.lane), time.monotonic()
        received = found.received if found else 0
        before = self._last.get((self.book.lane, peer.cluster))
        if before is None or before[0] != received:
            self._last[self.book.lane, peer.cluster] = before = (received, now)
        return now - before[1] >= _QUIET

    def _is_up(self, peer: Peer) -> bool:
        asker = self._askers.get(peer.cluster)
        answered = asker.answered if asker else None
        return answered is not None and time.monotonic() - answered < _DOWN

    def _peer_sample(self, peer: Peer) -> PeerSample:
        found = [state for lane in LANES if (state := self._state(peer, lane))]
        latest = max((state.handshake for state in found), default=0.0)
        asker = self._askers.get(peer.cluster)
        return PeerSample(
            cluster=peer.cluster,
            is_up=self._is_up(peer),
            received=sum(state.received for state in found),
            sent=sum(state.sent for state in found),
            handshake_age=max(time.time() - latest, 0.0) if latest else None,
            unattested=asker.unattested if asker else 0,
        )


def status(gateway: Gateway) -> Mapping[str, object]:
    """What people are shown of a tunnel; nothing of it is secret."""
    book, sample = gateway.book, gateway.sample()
    return {
        "cluster": gateway.tunnel.cluster,
        "publicKey": book.keys[book.sending].public,
        "lane": book.sending,
        "step": book.step.value if book.step else None,
        "keyAgeSeconds": round(sample.key_age),
        "peers": {peer.cluster: vars(peer) for peer in sample.peers},
    }
