"""What the enforcer knows of a cluster: its pods, the labels of its namespaces, its policies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

Json = Mapping[str, Any]
Address = IPv4Address | IPv6Address
Labels = Mapping[str, str]

_ENDED = ("Succeeded", "Failed")
_NAME = "kubernetes.io/metadata.name"
TCP = "TCP"


@dataclass(frozen=True, slots=True)
class NamedPort:
    """A port of a container that has a name."""

    name: str
    protocol: str
    number: int


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod with a network of its own; ``node`` are the addresses of the node that it runs on."""

    namespace: str
    name: str
    labels: Labels
    addresses: tuple[Address, ...]
    ports: tuple[NamedPort, ...] = ()
    node: tuple[Address, ...] = ()

    def numbers(self, name: str, protocol: str) -> tuple[int, ...]:
        """The ports that go by a name, of one protocol."""
        return tuple(
            port.number for port in self.ports if (port.name, port.protocol) == (name, protocol)
        )


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster at one moment. Policies are plain objects, as the API server checked them."""

    pods: tuple[Pod, ...]
    namespaces: Mapping[str, Labels]
    policies: tuple[Json, ...]


def cluster_of(
    pods: Iterable[Json], namespaces: Iterable[Json], policies: Iterable[Json]
) -> Cluster:
    """A cluster from objects of its API, in any order."""
    known = [pod for item in pods if (pod := pod_of(item)) is not None]
    return Cluster(
        pods=tuple(sorted(known, key=lambda pod: (pod.namespace, pod.name))),
        namespaces={item["metadata"]["name"]: namespace_labels(item) for item in namespaces},
        policies=tuple(sorted(policies, key=_full_name)),
    )


def pod_of(item: Json) -> Pod | None:
    """A pod that runs; ``None`` without an address, and on its node's network.

    What runs on the network of a node is the node to a NetworkPolicy.
    """
    metadata, spec, status = item["metadata"], item["spec"], item.get("status", {})
    addresses = tuple(_addresses(status, "podIPs", "podIP"))
    if not addresses or spec.get("hostNetwork") or status.get("phase") in _ENDED:
        return None
    return Pod(
        namespace=metadata["namespace"],
        name=metadata["name"],
        labels=metadata.get("labels") or {},
        addresses=addresses,
        ports=tuple(_named(spec)),
        node=tuple(_addresses(status, "hostIPs", "hostIP")),
    )


def namespace_labels(item: Json) -> Labels:
    """Labels of a namespace; its name is one of them."""
    metadata = item["metadata"]
    return {**(metadata.get("labels") or {}), _NAME: metadata["name"]}


def _full_name(item: Json) -> tuple[str, str]:
    return item["metadata"]["namespace"], item["metadata"]["name"]


def _addresses(status: Json, several: str, one: str) -> Iterator[Address]:
    listed = [entry.get("ip") for entry in status.get(several) or ()]
    yield from map(ip_address, dict.fromkeys(filter(None, [*listed, status.get(one)])))


def _named(spec: Json) -> Iterator[NamedPort]:
    """Named ports of all that stays: containers, and init containers that run beside them."""
    beside = (c for c in spec.get("initContainers") or () if c.get("restartPolicy") == "Always")
    for container in (*spec["containers"], *beside):
        for port in container.get("ports") or ():
            if "name" in port:
                yield NamedPort(port["name"], port.get("protocol", TCP), port["containerPort"])
