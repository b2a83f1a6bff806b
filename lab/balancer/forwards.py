"""What a load balancer forwards, from the objects of a cluster, and as nftables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Json = Mapping[str, Any]

TABLE = "zt_balancer"
_SERVICE = "kubernetes.io/service-name"


@dataclass(frozen=True, slots=True)
class Forward:
    """A port of the cluster's address, and the port of the node that it leads to."""

    protocol: str
    port: int
    node: str
    node_port: int

    @property
    def front(self) -> tuple[str, int]:
        """What is seen of it: protocol and port."""
        return self.protocol, self.port


def balanced(services: Iterable[Json]) -> list[Json]:
    """Services that ask for a load balancer, by namespace and name."""
    found = (item for item in services if item["spec"].get("type") == "LoadBalancer")
    return sorted(found, key=_key)


def forwards(
    services: Iterable[Json], slices: Iterable[Json], nodes: Iterable[Json]
) -> tuple[Forward, ...]:
    """To nodes that have a ready pod, as ``externalTrafficPolicy: Local`` wants it.

    Of several nodes the first is taken; of two services that want a port, the first by name.
    """
    addresses, places = dict(map(_address, nodes)), _places(slices)
    found: dict[tuple[str, int], Forward] = {}
    for service in balanced(services):
        node = next((addresses[n] for n in places.get(_key(service), ()) if n in addresses), None)
        for forward in _of(service, node) if node else ():
            found.setdefault(forward.front, forward)
    return tuple(found.values())


def text(address: str, found: Iterable[Forward]) -> str:
    """Input of ``nft -f`` that replaces the table: who sends keeps its address."""
    rules = [
        f"ip daddr {address} {item.protocol} dport {item.port} dnat to {item.node}:{item.node_port}"
        for item in found
    ]
    chain = ["chain in {", "type nat hook prerouting priority dstnat;", *rules, "}"]
    lines = [f"table ip {TABLE}", f"delete table ip {TABLE}", f"table ip {TABLE} {{", *chain, "}"]
    return "\n".join([*lines, ""])


def _key(item: Json) -> tuple[str, str]:
    return item["metadata"]["namespace"], item["metadata"]["name"]


def _of(service: Json, node: str) -> Iterator[Forward]:
    for port in service["spec"].get("ports", ()):
        if "nodePort" in port:
            protocol = port.get("protocol", "TCP").lower()
            yield Forward(protocol, port["port"], node, port["nodePort"])


def _address(node: Json) -> tuple[str, str]:
    addresses = {item["type"]: item["address"] for item in node["status"].get("addresses", ())}
    return node["metadata"]["name"], addresses.get("InternalIP", "")


def _places(slices: Iterable[Json]) -> Mapping[tuple[str, str], list[str]]:
    """Nodes that have a ready pod of a Service, by its namespace and name."""
    found: dict[tuple[str, str], list[str]] = {}
    for item in slices:
        name = item["metadata"].get("labels", {}).get(_SERVICE, "")
        ready = [each for each in item.get("endpoints") or () if _is_ready(each)]
        nodes = found.setdefault((item["metadata"]["namespace"], name), [])
        nodes += sorted(each["nodeName"] for each in ready if "nodeName" in each)
    return found


def _is_ready(endpoint: Json) -> bool:
    # What is not said is so: EndpointConditions of the API.
    return endpoint.get("conditions", {}).get("ready") is not False
