"""Has the lanes of a tunnel be as its book says: interfaces, peers, addresses, routes.

Done again it changes nothing: neither a session nor an endpoint that a peer has moved to.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gateway.tunnel import wg
from gateway.tunnel.book import LANES, Book, Step
from gateway.tunnel.errors import TunnelError
from gateway.tunnel.known import keys_of
from gateway.tunnel.peers import Peer, Tunnel, resolved

# IPv4 or IPv6, UDP, and WireGuard's own around each packet take no more than this.
_OVERHEAD = 80
_LEAST_MTU = 1280
_NAMES = tuple(f"wg{lane}" for lane in LANES)
_CONFIGURATION = Path("/proc/sys/net/ipv4/conf")


def lane_name(lane: int) -> str:
    """The interface of a lane."""
    return _NAMES[lane]


@dataclass
class Interfaces:
    """The interfaces of a gateway; ``states`` are as they were found last, by lane."""

    maker: wg.Maker
    states: dict[int, wg.State] = field(default_factory=dict)
    _endpoints: dict[tuple[int, str], tuple[str, int]] = field(default_factory=dict)
    _routes: dict[str, str] = field(default_factory=dict)

    def apply(self, book: Book, tunnel: Tunnel) -> None:
        """Have all be as the book says: lanes first, then where packets go, then what goes.

        Raises:
            TunnelError: if anything can't be done; what was done stays.
        """
        for name in self.maker.dead():
            self._routes = {a: where for a, where in self._routes.items() if where != name}
        there = wg.names()
        keys = keys_of(book, tunnel)
        for lane in sorted(book.keys):
            self._lane(lane, book, tunnel, keys, is_new=lane_name(lane) not in there)
        self._route(book, tunnel)
        for lane in LANES:
            if lane not in book.keys and lane_name(lane) in there:
                self.maker.remove(lane_name(lane))
                self.states.pop(lane, None)
                self._endpoints = {k: v for k, v in self._endpoints.items() if k[0] != lane}

    def look(self) -> None:
        """See how the interfaces are now.

        Raises:
            TunnelError: if they can't be seen.
        """
        for lane in list(self.states):
            self.states[lane] = wg.state(lane_name(lane))

    def find_again(self, cluster: str) -> None:
        """Dial a peer that is down where its host leads now, not where it was seen last."""
        self._endpoints = {k: v for k, v in self._endpoints.items() if k[1] != cluster}

    def _lane(
        self,
        lane: int,
        book: Book,
        tunnel: Tunnel,
        keys: Mapping[str, Mapping[int, str]],
        *,
        is_new: bool,
    ) -> None:
        name = lane_name(lane)
        if is_new:
            self.maker.make(name, _mtu())
        found = wg.state(name)
        if found.public != book.keys[lane].public:
            self.maker.set_key(name, book.keys[lane])
        if found.port != tunnel.port + lane:
            wg.run("wg", "set", name, "listen-port", str(tunnel.port + lane))
        is_left = book.step is Step.DRAINING and lane == book.lane
        wanted = {
            keys[peer.cluster][lane]: peer for peer in tunnel.peers if lane in keys[peer.cluster]
        }
        for public in found.peers.keys() - wanted.keys():
            wg.run("wg", "set", name, "peer", public, "remove")
        for public, peer in wanted.items():
            self._peer(lane, public, peer, found.peers.get(public), is_left=is_left)
        if is_new:
            # No route comes with it: packets go where the book says, and no further.
            address = (str(tunnel.address), "dev", name, "noprefixroute")
            wg.run("ip", "address", "replace", *address)
            wg.run("ip", "link", "set", name, "up")
        self.states[lane] = wg.state(name)

    def _peer(
        self, lane: int, public: str, peer: Peer, found: wg.PeerState | None, *, is_left: bool
    ) -> None:
        """A peer of a lane. A lane that is left has no keepalive, so that it falls silent."""
        keepalive = 0 if is_left else peer.keepalive
        options: list[str] = []
        if found is None or found.allowed != frozenset(peer.allowed):
            options += ["allowed-ips", ",".join(peer.allowed)]
        if found is None or found.keepalive != keepalive:
            options += ["persistent-keepalive", str(keepalive)]
        place = peer.host, peer.port + lane
        if found is None or self._endpoints.get((lane, peer.cluster)) != place:
            endpoint = resolved(*place)
            if endpoint is not None:
                self._endpoints[lane, peer.cluster] = place
                options += ["endpoint", endpoint]
        if options or found is None:
            wg.run("wg", "set", lane_name(lane), "peer", public, *options)

    def _route(self, book: Book, tunnel: Tunnel) -> None:
        """Only gateways' own addresses lead into the tunnel: no packet of a pod does."""
        device = lane_name(book.sending)
        wanted = {peer.address: device for peer in tunnel.peers}
        for address, where in wanted.items():
            if self._routes.get(address) != where:
                way = (f"{address}/32", "dev", where, "src", tunnel.own)
                wg.run("ip", "route", "replace", *way)
        for address in self._routes.keys() - wanted.keys():
            wg.run("ip", "route", "delete", f"{address}/32")
        self._routes = wanted


def is_strict(folder: Path = _CONFIGURATION) -> bool:
    """Whether the kernel takes packets only from where answers would go (``rp_filter``, RFC 3704).

    During a rotation the two sides do not switch in the same moment, so those would be dropped.
    """
    everywhere, *own = (
        int(path.read_text()) if path.exists() else None
        for path in (folder / name / "rp_filter" for name in ("all", "default", *_NAMES))
    )
    # Of all interfaces' and one's own the larger counts, and 2 is loose. New ones take the default.
    return any(max(everywhere or 0, value) == 1 for value in own if value is not None)


def _mtu() -> int:
    """What leaves room on the way out, whichever interface that is.

    Raises:
        TunnelError: if there is no way out.
    """
    found = json.loads(wg.run("ip", "-json", "route", "show", "default"))
    devices = {item["dev"] for item in found if "dev" in item}
    sizes = [int(item["mtu"]) for item in wg.links() if item["ifname"] in devices]
    if not sizes:
        sizes = [int(item["mtu"]) for item in wg.links() if "LOOPBACK" not in item["flags"]]
    if not sizes:
        raise TunnelError("there is no network besides loopback")
    return max(min(sizes) - _OVERHEAD, _LEAST_MTU)
