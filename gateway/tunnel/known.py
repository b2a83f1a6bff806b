"""Which keys a gateway's peers have, by lane: what they told last, or what the stack says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from gateway.tunnel.book import LANES, Book, Offer
from gateway.tunnel.peers import Peer, Tunnel


def keys_of(book: Book, tunnel: Tunnel) -> Mapping[str, Mapping[int, str]]:
    """The public keys of each peer by lane.

    A stack that names another key than it did, and than the peer told, is right: that gateway
    began anew, and is on any lane.
    """
    return {
        peer.cluster: book.peers[peer.cluster]
        if _is_told(book, peer)
        else dict.fromkeys(LANES, peer.public)
        for peer in tunnel.peers
    }


def _is_told(book: Book, peer: Peer) -> bool:
    told = book.peers.get(peer.cluster)
    if told is None:
        return False
    return book.stack.get(peer.cluster) == peer.public or peer.public in told.values()


def learned(book: Book, heard: Mapping[str, Offer], tunnel: Tunnel) -> Book:
    """The book with the keys that peers told, and what the stack said when they did."""
    stack = {peer.cluster: peer.public for peer in tunnel.peers}
    told = {name: dict(offer.keys) for name, offer in heard.items()}
    peers = {n: keys for n, keys in {**book.peers, **told}.items() if n in stack}
    known = {n: key for n, key in book.stack.items() if n in stack}
    known |= {n: stack[n] for n in told if n in stack}
    return replace(book, peers=peers, stack=known)
