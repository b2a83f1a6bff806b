"""What the policies of a cluster come to: for each isolated address, who may connect to what.

Semantics are those of the Kubernetes documentation ("Network Policies") and of the API reference
(``NetworkPolicySpec``). Where these leave it open, an ``ipBlock`` also means pods.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network
from typing import Literal

from lab.enforcer.model import TCP, Address, Cluster, Json, Pod
from lab.enforcer.selectors import selects

Network = IPv4Network | IPv6Network
Side = Literal["ingress", "egress"]
SIDES: tuple[Side, Side] = ("ingress", "egress")
LAST_PORT = 65535


@dataclass(frozen=True, slots=True, order=True)
class Ports:
    """Ports of one protocol (``TCP``, ``UDP``, ``SCTP``), both ends included."""

    protocol: str
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Rule:
    """Lets connections through: with these peers, to these ports. ``None`` is any."""

    peers: tuple[Network, ...] | None
    ports: tuple[Ports, ...] | None

    def admits(self, peer: Address, port: int, protocol: str) -> bool:
        """Whether it lets a connection through; the port is the destination's."""
        return (self.peers is None or any(peer in network for network in self.peers)) and (
            self.ports is None
            or any(p.protocol == protocol and p.first <= port <= p.last for p in self.ports)
        )


Rules = Mapping[Address, tuple[Rule, ...]]


@dataclass(frozen=True, slots=True)
class Verdicts:
    """Rules of each isolated address. One that is missing on a side is not isolated there."""

    ingress: Rules
    egress: Rules

    def of(self, side: Side) -> Rules:
        """Those of a side."""
        return self.ingress if side == "ingress" else self.egress

    def admit(self, source: Address, destination: Address, port: int, protocol: str) -> bool:
        """Whether a connection comes about: both ends let it. A pod always reaches itself."""
        return source == destination or (
            _admits(self.egress.get(source), destination, port, protocol)
            and _admits(self.ingress.get(destination), source, port, protocol)
        )


def verdicts(cluster: Cluster) -> Verdicts:
    """The rules of all pods; in no particular order of the policies."""
    ingress, egress = (_rules_of(cluster, side) for side in SIDES)
    return Verdicts(ingress, egress)


def _admits(rules: Sequence[Rule] | None, peer: Address, port: int, protocol: str) -> bool:
    return rules is None or any(rule.admits(peer, port, protocol) for rule in rules)


def _rules_of(cluster: Cluster, side: Side) -> Rules:
    """What is allowed adds up; an isolated pod without a rule allows nothing."""
    found: dict[Address, set[Rule]] = {}
    for policy in cluster.policies:
        if side not in _sides(policy["spec"]):
            continue
        rules = [_expander(cluster, policy, rule, side) for rule in policy["spec"].get(side) or ()]
        for pod in _isolated(cluster, policy):
            for address in pod.addresses:
                found.setdefault(address, set()).update(r for rule in rules for r in rule(pod))
    return {address: tuple(sorted(rules, key=repr)) for address, rules in found.items()}


def _sides(spec: Json) -> tuple[str, ...]:
    """What a policy is about. Unsaid, it is ingress, and egress if there are rules of it."""
    types = spec.get("policyTypes") or ("Ingress", *(("Egress",) if spec.get("egress") else ()))
    return tuple(kind.lower() for kind in types)


def _isolated(cluster: Cluster, policy: Json) -> Iterator[Pod]:
    for pod in cluster.pods:
        if pod.namespace == policy["metadata"]["namespace"] and selects(
            policy["spec"].get("podSelector") or {}, pod.labels
        ):
            yield pod


def _expander(
    cluster: Cluster, policy: Json, rule: Json, side: Side
) -> Callable[[Pod], Iterable[Rule]]:
    """A rule of a policy; what it comes to depends on the pod only where ports have names.

    The names are those of the destination: of the pod itself, or of each of its peers.
    """
    listed = rule.get("from" if side == "ingress" else "to")
    peers = tuple(_collapsed(_networks(cluster, policy, listed))) if listed else None
    if peers == ():
        return lambda _: ()
    wanted = rule.get("ports") or ()
    if not wanted:
        return lambda _: (Rule(peers, None),)
    if side == "ingress":
        return lambda pod: _rule(peers, _ports(wanted, pod))
    fixed = (*_rule(peers, _ports(wanted, None)), *_by_name(cluster, peers, wanted))
    return lambda _: fixed


def _rule(peers: tuple[Network, ...] | None, ports: Iterable[Ports]) -> tuple[Rule, ...]:
    """No rule where no port is left."""
    found = tuple(sorted(set(ports)))
    return (Rule(peers, found),) if found else ()


def _by_name(
    cluster: Cluster, peers: tuple[Network, ...] | None, wanted: Sequence[Json]
) -> Iterator[Rule]:
    """A rule for each pod among the peers that has a port of a wanted name."""
    named = [port for port in wanted if isinstance(port.get("port"), str)]
    for pod in cluster.pods if named else ():
        for address in pod.addresses:
            if peers is None or any(address in network for network in peers):
                yield from _rule((_host(address),), _ports(named, pod))


def _ports(wanted: Iterable[Json], pod: Pod | None) -> Iterator[Ports]:
    """Ports as numbers; names are those of the pod, and nothing without one."""
    for item in wanted:
        protocol, port = item.get("protocol", TCP), item.get("port")
        if port is None:
            yield Ports(protocol, 0, LAST_PORT)
        elif isinstance(port, int):
            yield Ports(protocol, port, item.get("endPort", port))
        elif pod is not None:
            yield from (Ports(protocol, n, n) for n in pod.numbers(port, protocol))


def _networks(cluster: Cluster, policy: Json, peers: Iterable[Json]) -> Iterator[Network]:
    for peer in peers:
        if "ipBlock" in peer:
            yield from _block(peer["ipBlock"])
        else:
            for pod in _selected(cluster, policy, peer):
                yield from map(_host, pod.addresses)


def _selected(cluster: Cluster, policy: Json, peer: Json) -> Iterator[Pod]:
    """Pods that a peer means: of the policy's own namespace, if it says nothing of namespaces."""
    for pod in cluster.pods:
        if "namespaceSelector" in peer:
            labels = cluster.namespaces.get(pod.namespace)
            near = labels is not None and selects(peer["namespaceSelector"], labels)
        else:
            near = pod.namespace == policy["metadata"]["namespace"]
        if near and selects(peer.get("podSelector") or {}, pod.labels):
            yield pod


def _block(block: Json) -> Iterator[Network]:
    """A network, cut into the parts that are left of it by its exceptions."""
    left = [ip_network(block["cidr"], strict=False)]
    for text in block.get("except") or ():
        excluded = ip_network(text, strict=False)
        left = [part for network in left for part in _without(network, excluded)]
    yield from left


def _without(network: Network, excluded: Network) -> Iterator[Network]:
    if not network.overlaps(excluded):
        yield network
    elif network.prefixlen < excluded.prefixlen:
        # Of one family, since they overlap.
        yield from network.address_exclude(excluded)  # type: ignore[arg-type]


def _collapsed(networks: Iterable[Network]) -> Iterator[Network]:
    """The same addresses in as few networks as can be, since nft takes no overlaps."""
    found = list(networks)
    yield from collapse_addresses(n for n in found if isinstance(n, IPv4Network))
    yield from collapse_addresses(n for n in found if isinstance(n, IPv6Network))


def _host(address: Address) -> Network:
    return ip_network(address)
