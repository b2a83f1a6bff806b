"""What NetworkPolicies are made of: peers, ports, and the items that join them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from zt.bundle import CompiledFile
from zt.emit import Fragment, note
from zt.model import Service
from zt.wellknown import MANAGED_BY

_APP = "app"
_NAMESPACE = "kubernetes.io/metadata.name"


@dataclass(frozen=True, slots=True)
class Pods:
    """Pods of a namespace: each label with the values that it may have."""

    namespace: str
    labels: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True, slots=True)
class Block:
    """A network, and the networks that are cut out of it; in CIDR form."""

    cidr: str
    excluded: tuple[str, ...] = ()


Peer = Pods | Block


@dataclass(frozen=True, slots=True)
class Port:
    """A port of a protocol of layer 4."""

    number: int
    protocol: str = "TCP"


@dataclass(frozen=True, slots=True)
class Flow:
    """A peer may be talked with on a port, for the reason that ``why`` gives.

    The peer ``None`` is anyone.
    """

    peer: Peer | None
    port: Port
    why: str


def pods_of(service: Service) -> Pods:
    """The pods of a service."""
    labels = sorted(service.labels.items())
    return Pods(service.namespace, tuple((name, (value,)) for name, value in labels))


def groups(services: Iterable[Service]) -> list[tuple[str, Pods]]:
    """Pods of many services by few selectors, each with the name of its first service.

    The name is empty where they are selected by ``app``. A service selected by several labels stays
    by itself: one selector for two of them would select other combinations too.
    """
    members: dict[tuple[str, str, str], list[Service]] = defaultdict(list)
    for service in services:
        several = service.name if len(service.labels) > 1 else ""
        members[service.namespace, min(service.labels), several].append(service)
    return [
        ("" if label == _APP and not several else found[0].name, _union(found))
        for (_, label, several), found in sorted(members.items(), key=lambda item: item[0])
    ]


def _union(services: list[Service]) -> Pods:
    names = sorted(services[0].labels)
    return Pods(
        services[0].namespace,
        tuple((name, tuple(sorted({s.labels[name] for s in services}))) for name in names),
    )


def policy(name: str, pods: Pods, header: str, **sides: list[Any]) -> CompiledFile:
    """A NetworkPolicy of one side or both, ingress first; a side without items refuses all."""
    content = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": pods.namespace, "labels": dict(MANAGED_BY)},
        "spec": {
            "podSelector": _selector(pods),
            "policyTypes": [side.capitalize() for side in sides],
            **{side: items for side, items in sides.items() if items},
        },
    }
    return CompiledFile(f"networkpolicies/{pods.namespace}/{name}.yaml", content, header)


def rules(side: str, namespace: str, flows: Iterable[Flow]) -> list[Any]:
    """One item for each set of peers, with all ports that have just these peers.

    A port that is open to anyone has an item without peers. ``side`` is ``from`` or
    ``to``; ``namespace`` is that of the policy.
    """
    reasons: dict[Port, dict[Peer | None, dict[str, None]]] = {}
    for flow in flows:
        reasons.setdefault(flow.port, {}).setdefault(flow.peer, {})[flow.why] = None
    ports_by_peers: dict[frozenset[Peer | None], list[Port]] = defaultdict(list)
    for port, peers in reasons.items():
        ports_by_peers[frozenset(peers)].append(port)
    return [_item(side, namespace, ports, reasons) for ports in ports_by_peers.values()]


def _item(
    side: str,
    namespace: str,
    ports: list[Port],
    reasons: dict[Port, dict[Peer | None, dict[str, None]]],
) -> Any:  # noqa: ANN401 - any JSON value
    """Ports, and the peers that they have, each peer with its reasons."""
    listed = {"ports": [{"protocol": port.protocol, "port": port.number} for port in ports]}
    if None in reasons[ports[0]]:
        return note(listed, _join(reasons[port][None] for port in ports))
    peers = [
        note(peer(found, namespace), _join(reasons[port][found] for port in ports))
        for found in reasons[ports[0]]
        if found is not None
    ]
    return {side: peers, **listed}


def _join(reasons: Iterable[Iterable[str]]) -> str:
    return "\n".join(dict.fromkeys(why for some in reasons for why in some))


def peer(found: Peer, namespace: str) -> Any:  # noqa: ANN401 - any JSON value
    """A peer as a policy of ``namespace`` names it; its own namespace goes without saying."""
    if isinstance(found, Block):
        excluded = {"except": list(found.excluded)} if found.excluded else {}
        return {"ipBlock": {"cidr": found.cidr, **excluded}}
    return _near(found) if found.namespace == namespace else _far(found)


# The same few services are peers in very many places.


@lru_cache(maxsize=1 << 12)
def _near(found: Pods) -> Fragment:
    return Fragment({"podSelector": _selector(found)})


@lru_cache(maxsize=1 << 12)
def _far(found: Pods) -> Fragment:
    namespace = {"matchLabels": {_NAMESPACE: found.namespace}}
    return Fragment({"namespaceSelector": namespace, "podSelector": _selector(found)})


def _selector(pods: Pods) -> dict[str, Any]:
    exact = {name: values[0] for name, values in pods.labels if len(values) == 1}
    several = [
        {"key": name, "operator": "In", "values": list(values)}
        for name, values in pods.labels
        if len(values) > 1
    ]
    return {
        **({"matchLabels": exact} if exact else {}),
        **({"matchExpressions": several} if several else {}),
    }
