"""What a cluster that implements NetworkPolicies lets through.

Written from the Kubernetes API reference (``NetworkPolicySpec``) alone; it shares no code with the
compiler. Policies are plain objects, as ``kubectl get -o json`` shows them. Where the API leaves it
open whether an ``ipBlock`` also means pods, it does here: the reading that allows more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from ipaddress import ip_address, ip_network
from typing import Any

Object = Mapping[str, Any]


@dataclass(frozen=True)
class Pod:
    """A pod; ``ports`` are the named ones of its containers."""

    name: str
    namespace: str
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    ip: str = "10.255.255.254"
    ports: Mapping[str, int] = field(default_factory=dict, hash=False)


End = Pod | str
"""A pod, or the address of something that is none."""

Target = tuple[End, int, str]
"""Where a connection leads: the end, its port, and the protocol."""


class Cluster:
    """The policies of a cluster and the labels of its namespaces, besides their names."""

    def __init__(
        self, policies: Iterable[Object], namespaces: Mapping[str, Mapping[str, str]] | None = None
    ) -> None:
        self._policies = tuple(policies)
        self._namespaces = namespaces or {}
        self._applied: dict[tuple[Pod, str], tuple[Object, ...]] = {}

    def allowed(self, source: End, destination: End, port: int, protocol: str = "TCP") -> bool:
        """Whether a connection comes about: both ends must let it."""
        return source == destination or (
            self.egress(source, destination, port, protocol)
            and self.ingress(source, destination, port, protocol)
        )

    def ingress(self, source: End, destination: End, port: int, protocol: str = "TCP") -> bool:
        """Whether the destination lets it in; what is no pod does."""
        if isinstance(destination, str):
            return True
        return self._permits(destination, "ingress", source, (destination, port, protocol))

    def egress(self, source: End, destination: End, port: int, protocol: str = "TCP") -> bool:
        """Whether the source lets it out; what is no pod does."""
        if isinstance(source, str):
            return True
        return self._permits(source, "egress", destination, (destination, port, protocol))

    def _permits(self, pod: Pod, side: str, peer: End, target: Target) -> bool:
        """No policy for the pod: everything. Else what any of them allows."""
        policies = self._of(pod, side)
        return not policies or any(
            _is_port(rule.get("ports"), target)
            and self._is_peer(policy, rule.get("from" if side == "ingress" else "to"), peer)
            for policy in policies
            for rule in policy["spec"].get(side) or ()
        )

    def _of(self, pod: Pod, side: str) -> tuple[Object, ...]:
        """The policies that isolate a pod on a side."""
        if (pod, side) not in self._applied:
            self._applied[pod, side] = tuple(
                policy
                for policy in self._policies
                if policy["metadata"]["namespace"] == pod.namespace
                and matches(policy["spec"]["podSelector"], pod.labels)
                and side.capitalize() in _types(policy["spec"])
            )
        return self._applied[pod, side]

    def _is_peer(self, policy: Object, peers: Sequence[Object] | None, end: End) -> bool:
        """No list and an empty one mean anybody."""
        return not peers or any(self._is_one(policy, peer, end) for peer in peers)

    def _is_one(self, policy: Object, peer: Object, end: End) -> bool:
        if "ipBlock" in peer:
            return _in_block(peer["ipBlock"], end if isinstance(end, str) else end.ip)
        if isinstance(end, str):
            return False
        return self._in_namespace(policy, peer, end) and matches(
            peer.get("podSelector", {}), end.labels
        )

    def _in_namespace(self, policy: Object, peer: Object, pod: Pod) -> bool:
        """Without a namespaceSelector, a podSelector means pods of the policy's namespace."""
        if "namespaceSelector" not in peer:
            return bool(pod.namespace == policy["metadata"]["namespace"])
        labels = self._namespaces.get(pod.namespace, {})
        return matches(
            peer["namespaceSelector"], {**labels, "kubernetes.io/metadata.name": pod.namespace}
        )


def matches(selector: Object, labels: Mapping[str, str]) -> bool:
    """Whether a label selector selects; an empty one selects all."""
    return all(
        labels.get(key) == value for key, value in selector.get("matchLabels", {}).items()
    ) and all(_satisfies(wanted, labels) for wanted in selector.get("matchExpressions", ()))


def _satisfies(wanted: Object, labels: Mapping[str, str]) -> bool:
    value = labels.get(wanted["key"])
    match wanted["operator"]:
        case "In":
            return value in wanted["values"]
        case "NotIn":
            return value not in wanted["values"]
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
    raise ValueError(wanted["operator"])


def _types(spec: Object) -> Sequence[str]:
    """The sides that a policy is about; unsaid, egress only if there are rules of it."""
    return spec.get("policyTypes") or ["Ingress", *(["Egress"] if spec.get("egress") else [])]


def _in_block(block: Object, address: str) -> bool:
    return is_within(address, block["cidr"]) and not any(
        is_within(address, excluded) for excluded in block.get("except", ())
    )


@cache
def is_within(address: str, network: str) -> bool:
    """Whether an address lies in a network; few of either recur very often."""
    return ip_address(address) in ip_network(network)


def _is_port(ports: Sequence[Object] | None, target: Target) -> bool:
    """No list and an empty one mean every port of every protocol."""
    destination, port, protocol = target
    return not ports or any(
        wanted.get("protocol", "TCP") == protocol and _is_number(wanted, destination, port)
        for wanted in ports
    )


def _is_number(wanted: Object, destination: End, port: int) -> bool:
    """A name means the container's port of that name, where the destination has one."""
    number = wanted.get("port")
    if number is None:
        return True
    if isinstance(number, str):
        return isinstance(destination, Pod) and destination.ports.get(number) == port
    return bool(number <= port <= wanted.get("endPort", number))
