"""The table of nftables that lets through what the rules admit, and nothing else.

Every packet of a connection is judged, whichever way it goes, by the tuple that conntrack keeps of
it: who opened it (the source of its original direction) and where it ended up after a Service's
address was translated (the source of its replies). So replies pass as long as the connection may
be, and a connection that is no longer allowed is cut in the moment the table is replaced: no rule
accepts what is merely established.

A node reaches its own pods, and they it: the documentation says so. What it sends passes no chain
here; what pods send to other addresses of the namespace (the API server's, say) is judged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Literal

from lab.enforcer.model import Address, Cluster
from lab.enforcer.rules import LAST_PORT, SIDES, Network, Ports, Rule, Rules, Side, Verdicts

NAME = "zt_networkpolicy"
_PROTOCOLS = ("TCP", "UDP", "SCTP")
_HOOKS = ("forward", "input")


@dataclass(frozen=True, slots=True)
class _Family:
    """Words of nft for a version of IP."""

    version: Literal[4, 6]
    word: str
    kind: str

    @property
    def source(self) -> str:
        """Who opened the connection."""
        return f"ct original {self.word} saddr"

    @property
    def destination(self) -> str:
        """Where it ended up: the pod behind a Service, not the Service."""
        return f"ct reply {self.word} saddr"

    def own(self, addresses: Iterable[Address]) -> list[str]:
        """Those addresses that are of this family, in order."""
        return list(map(str, sorted(a for a in addresses if a.version == self.version)))


_FAMILIES = (_Family(4, "ip", "ipv4_addr"), _Family(6, "ip6", "ipv6_addr"))


def text(cluster: Cluster, verdicts: Verdicts, networks: Iterable[Network] = ()) -> str:
    """Input of ``nft -f`` that replaces the table as a whole, or not at all.

    ``networks`` are those that pods get their addresses from: an address in them that is no known
    pod's is refused everything, so that a pod is isolated from its first packet.
    """
    lines = [f"table inet {NAME}", f"delete table inet {NAME}", f"table inet {NAME} {{"]
    for family in _FAMILIES:
        lines += _sets(family, cluster, verdicts, networks)
        for side in SIDES:
            lines += _chains(family, side, verdicts.of(side))
    for hook in _HOOKS:
        lines += _hook(hook)
    return "\n".join([*lines, "}", ""])


def _sets(
    family: _Family, cluster: Cluster, verdicts: Verdicts, networks: Iterable[Network]
) -> Iterator[str]:
    version, kind = family.version, family.kind
    isolated = family.own({*verdicts.ingress, *verdicts.egress})
    known = family.own(address for pod in cluster.pods for address in pod.addresses)
    within = [str(n) for n in networks if n.version == version]
    yield from _set(f"isolated{version}", kind, isolated)
    yield from _set(f"pods{version}", kind, sorted(set(known)))
    yield from _set(f"networks{version}", kind, within, "flags interval")
    yield from _set(f"itself{version}", f"{kind} . {kind}", [f"{a} . {a}" for a in known])
    yield from _set(f"node{version}", f"{kind} . {kind}", _nodes(family, cluster))


def _nodes(family: _Family, cluster: Cluster) -> list[str]:
    return [
        f"{address} . {node}"
        for pod in cluster.pods
        for address in family.own(pod.addresses)
        for node in family.own(pod.node)
    ]


def _set(name: str, kind: str, elements: Iterable[str], flags: str = "") -> Iterator[str]:
    listed = ", ".join(dict.fromkeys(elements))
    yield f"set {name} {{"
    yield f"type {kind}"
    yield from filter(None, [flags, f"elements = {{ {listed} }}" if listed else ""])
    yield "}"


def _chains(family: _Family, side: Side, rules: Rules) -> Iterator[str]:
    """One chain for all pods of the same rules, and the map that leads each pod to its own."""
    chosen: dict[str, str] = {}
    chains: dict[tuple[Rule, ...], str] = {}
    for address, listed in sorted(_of_family(family, rules).items()):
        if listed not in chains:
            chains[listed] = f"{side}{family.version}_{len(chains)}"
            yield from _chain(chains[listed], family, side, listed)
        chosen[str(address)] = chains[listed]
    listed_elements = ", ".join(f"{address} : jump {name}" for address, name in chosen.items())
    yield f"map {side}{family.version} {{"
    yield f"type {family.kind} : verdict"
    if chosen:
        yield f"elements = {{ {listed_elements} }}"
    yield "}"


def _of_family(family: _Family, rules: Rules) -> Mapping[Address, tuple[Rule, ...]]:
    return {a: listed for a, listed in rules.items() if a.version == family.version}


def _chain(name: str, family: _Family, side: Side, rules: Iterable[Rule]) -> Iterator[str]:
    yield f"chain {name} {{"
    for rule in rules:
        yield from _lines(family, side, rule)
    yield "counter drop"
    yield "}"


def _lines(family: _Family, side: Side, rule: Rule) -> Iterator[str]:
    """What a rule admits goes back to the hook, which may ask the other side, too."""
    who = ""
    if rule.peers is not None:
        peers = [n for n in rule.peers if n.version == family.version]
        if not peers:
            return
        if not any(n.prefixlen == 0 for n in peers):
            field = family.source if side == "ingress" else family.destination
            who = f"{field} {{ {', '.join(map(_network, peers))} }} "
    if rule.ports is None:
        yield f"{who}return"
        return
    for protocol in _PROTOCOLS:
        ports = [port for port in rule.ports if port.protocol == protocol]
        if ports:
            yield f"{who}{_protocol(protocol, ports)}return"


def _protocol(protocol: str, ports: Iterable[Ports]) -> str:
    """The port is the one behind a Service; nft wants the packet's protocol before it."""
    merged = list(_merged(ports))
    start = f"meta l4proto {protocol.lower()} "
    if merged[0] == (0, LAST_PORT):
        return start
    listed = ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in merged)
    return f"{start}ct reply proto-src {{ {listed} }} "


def _merged(ports: Iterable[Ports]) -> Iterator[tuple[int, int]]:
    """The same ports without overlaps, in order."""
    first, last = -1, -1
    for port in sorted(ports):
        if first >= 0 and port.first <= last + 1:
            last = max(last, port.last)
            continue
        if first >= 0:
            yield first, last
        first, last = port.first, port.last
    yield first, last


def _network(network: Network) -> str:
    single = 32 if isinstance(network, IPv4Network) else 128
    return str(network.network_address if network.prefixlen == single else network)


def _hook(name: str) -> Iterator[str]:
    """Where packets come in: what has no connection, what has none to be asked about, the rest."""
    yield f"chain {name} {{"
    yield f"type filter hook {name} priority filter; policy accept;"
    if name == "input":
        # The node with itself.
        yield 'iifname "lo" accept'
    # Neighbours find each other; errors belong to a connection that was let through.
    yield "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit } accept"
    yield "meta l4proto { icmp, ipv6-icmp } ct state related accept"
    for family in _FAMILIES:
        yield from _judgement(family, name)
    yield "}"


def _judgement(family: _Family, hook: str) -> Iterator[str]:
    version, word = family.version, family.word
    ends = ("saddr",) if hook == "input" else ("saddr", "daddr")
    for end in ends:
        # Without a connection there is nothing to judge by.
        yield f"ct state {{ invalid, untracked }} {word} {end} @isolated{version} counter drop"
        yield (
            f"ct direction original {word} {end} @networks{version} "
            f"{word} {end} != @pods{version} counter drop"
        )
    free = f"node{version}" if hook == "input" else f"itself{version}"
    yield f"{family.source} . {family.destination} @{free} accept"
    yield f"{family.source} vmap @egress{version}"
    if hook == "forward":
        yield f"{family.destination} vmap @ingress{version}"
