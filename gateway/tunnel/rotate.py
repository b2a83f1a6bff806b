"""Runs a tunnel: hears its peers, takes the next step, keeps it, and only then acts on it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gateway.keys import KeyStoreError
from gateway.svid import Source
from gateway.tunnel import wg
from gateway.tunnel.book import LANES, Book, Offer, Step
from gateway.tunnel.errors import TunnelError
from gateway.tunnel.interface import Interfaces, is_strict
from gateway.tunnel.known import keys_of, learned
from gateway.tunnel.metrics import PeerSample, Sample
from gateway.tunnel.peers import Peer, Tunnel, read_tunnel
from gateway.tunnel.rotation import Times, advance, begin, call_off, obstacle
from gateway.tunnel.seen import Peers, Seen
from gateway.tunnel.store import Store
from gateway.tunnel.talk import Asker

# A session is renewed after two minutes, and ends after three.
_FRESH = 180.0
# A peer that has not answered for so long is down; one is dialled again before that.
_DOWN = 8.0
_SILENT = 4.0
# So long a lane is silent before it goes.
_QUIET = 3.0
# So long a lane counts as live after a packet: longer than a peer takes to ask again.
_LIVE = 8.0
# How often peers are asked, when nothing happens and during a rotation.
_CALM, _BUSY = 2.0, 0.25
# How long peers may take to end a rotation before the next begins.
_ENDING = 20.0
# How long KMS is left alone after it failed.
_KMS_PAUSE = 5.0

_log = logging.getLogger(__name__)


@dataclass
class Gateway:
    """A gateway's tunnel. One thread calls ``tick``; others may ask for what they see.

    ``book`` is what has been kept, ``told`` what has been acted on as well; a gateway that comes
    back tells its peers nothing before that.
    """

    peers_file: Path
    store: Store
    interfaces: Interfaces
    times: Times
    book: Book
    tunnel: Tunnel
    svids: Source
    told: Offer | None = None
    woken: threading.Event = field(default_factory=threading.Event)
    store_failing: bool = False
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _askers: dict[str, Asker] = field(default_factory=dict)
    _last: dict[tuple[int, str], tuple[int, float]] = field(default_factory=dict)
    _redialled: dict[str, float] = field(default_factory=dict)
    _applied: bool = False
    _has_older: bool = True
    _again: float = 0.0

    # --- What others ask --------------------------------------------------------------------------

    def offer(self) -> str | None:
        """What peers are told, as JSON: only of what has been done; ``None`` before that."""
        return self.told.text() if self.told else None

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
        """Begin a rotation, once all peers are done with the one before.

        Raises:
            TunnelError: if one is under way, or packets would be lost.
            KeyStoreError: if the new key can't be kept.
        """
        if is_strict():
            raise TunnelError("rp_filter is 1 here: packets would be lost; make it 0 or 2")
        deadline = time.monotonic() + _ENDING
        while self.book.step is None and obstacle(self.book, self._peers(self._offers())):
            if time.monotonic() > deadline:
                break
            time.sleep(_BUSY)
        key = wg.new_key(time.time())
        with self._lock:
            self._keep(begin(self.book, key, self._peers(self._offers()), time.time()))
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
        return _CALM if self.book.step in (None, Step.JOINING) else _BUSY

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
            self._onward()
            self._forget()

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
        self._applied = True

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
        """Dial a peer again that does not answer: its address may be another now.

        Or the own one is: wireguard-go goes on to send from the address that it sent from last,
        which fails once that is gone, until it has waited for 15 s or is told an endpoint.
        """
        now = time.monotonic()
        for peer in self.tunnel.peers:
            last = max(self._answered(peer), self._redialled.get(peer.cluster, 0.0))
            if now - last > _SILENT:
                self._redialled[peer.cluster] = now
                self.interfaces.find_again(peer.cluster)
                self._applied = False

    def _onward(self) -> None:
        """Keep what peers told before it is used, take the next step, and tell them."""
        offers = self._offers()
        self._keep(learned(self.book, offers, self.tunnel))
        peers = self._peers(offers)
        self._keep(advance(self.book, self.tunnel.cluster, peers, time.time(), self.times))
        if not self._applied:
            self._act()
        self.told = self.book.offer({name: offer.place for name, offer in offers.items()})

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
        self.book, self._applied, self._has_older = book, False, True

    def _forget(self) -> None:
        """Once no rotation is under way, the versions before have keys that are used no more."""
        if not self._has_older or self.book.step is not None:
            return
        self._has_older = False
        try:
            self.store.forget()
        except KeyStoreError as error:
            _log.error("KMS still has keys that are used no more: %s", error)

    # --- What it sees -----------------------------------------------------------------------------

    def _offers(self) -> Mapping[str, Offer]:
        """What peers told last."""
        heard = {name: asker.heard for name, asker in list(self._askers.items())}
        return {name: offer for name, offer in heard.items() if offer}

    def _peers(self, offers: Mapping[str, Offer]) -> Peers:
        return {p.cluster: self._seen(p, offers.get(p.cluster)) for p in self.tunnel.peers}

    def _seen(self, peer: Peer, offer: Offer | None) -> Seen:
        return Seen(
            offer=offer,
            fresh={lane: self._is_fresh(peer, lane) for lane in LANES},
            up=self._is_up(peer),
            live=frozenset(lane for lane in LANES if self._is_live(peer, lane)),
            quiet=self._is_quiet(peer),
        )

    def _state(self, peer: Peer, lane: int) -> wg.PeerState | None:
        public = keys_of(self.book, self.tunnel).get(peer.cluster, {}).get(lane)
        found = self.interfaces.states.get(lane)
        return found.peers.get(public) if found and public else None

    def _is_fresh(self, peer: Peer, lane: int) -> bool:
        found = self._state(peer, lane)
        return found is not None and time.time() - found.handshake < _FRESH

    def _is_quiet(self, peer: Peer) -> bool:
        """Whether nothing has come from it on the lane that is left, for a while."""
        _, since = self._received(peer, self.book.lane)
        return time.monotonic() - since >= _QUIET

    def _is_live(self, peer: Peer, lane: int) -> bool:
        """Whether something has come from it on a lane, just now."""
        received, since = self._received(peer, lane)
        return received > 0 and time.monotonic() - since < _LIVE

    def _received(self, peer: Peer, lane: int) -> tuple[int, float]:
        """How many bytes came from it on a lane, and since when there are no more of them."""
        found, at = self._state(peer, lane), (lane, peer.cluster)
        received = found.received if found else 0
        if at not in self._last or self._last[at][0] != received:
            self._last[at] = (received, time.monotonic())
        return self._last[at]

    def _answered(self, peer: Peer) -> float:
        """When it did so last, by the monotonic clock."""
        asker = self._askers.get(peer.cluster)
        return (asker.answered if asker else None) or float("-inf")

    def _is_up(self, peer: Peer) -> bool:
        return time.monotonic() - self._answered(peer) < _DOWN

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
