"""What comes to a cluster's address goes to a node that has a ready pod, and nowhere else."""

from __future__ import annotations

from typing import Any

from lab.balancer.balancer import Balancer
from lab.balancer.forwards import Forward, forwards, text
from lab.cluster.client import Answer

Json = dict[str, Any]

ADDRESS = "192.0.2.10"
WIREGUARD = {"port": 51820, "protocol": "UDP", "nodePort": 30001}
ARRIVALS = {"port": 15444, "protocol": "TCP", "nodePort": 30002}


def node(name: str, address: str) -> Json:
    addresses = [
        {"type": "Hostname", "address": name},
        {"type": "InternalIP", "address": address},
    ]
    return {"metadata": {"name": name}, "status": {"addresses": addresses}}


NODES = [node("one", "198.51.100.11"), node("two", "198.51.100.12")]


def service(name: str = "tunnel", *ports: Json, kind: str = "LoadBalancer") -> Json:
    spec = {"type": kind, "ports": list(ports or (WIREGUARD, ARRIVALS))}
    return {"metadata": {"namespace": "mesh", "name": name}, "spec": spec}


def pieces(*endpoints: tuple[str, bool | None], name: str = "tunnel") -> Json:
    """A slice with a pod on each node, ready or not."""
    listed = [
        {"nodeName": on, "conditions": {} if ready is None else {"ready": ready}}
        for on, ready in endpoints
    ]
    labels = {"kubernetes.io/service-name": name}
    return {"metadata": {"namespace": "mesh", "labels": labels}, "endpoints": listed}


def test_each_port_leads_to_the_node_of_a_ready_pod() -> None:
    found = forwards([service()], [pieces(("one", False), ("two", True))], NODES)
    assert found == (
        Forward("udp", 51820, "198.51.100.12", 30001),
        Forward("tcp", 15444, "198.51.100.12", 30002),
    )


def test_what_is_not_said_about_a_pod_is_that_it_is_ready() -> None:
    assert forwards([service()], [pieces(("one", None))], NODES)[0].node == "198.51.100.11"


def test_without_a_ready_pod_nothing_is_forwarded() -> None:
    assert forwards([service()], [pieces(("one", False))], NODES) == ()
    assert forwards([service()], [], NODES) == ()
    assert forwards([service()], [pieces(("gone", True))], NODES) == ()


def test_other_services_are_left_alone() -> None:
    inner = service(kind="ClusterIP")
    assert forwards([inner], [pieces(("one", True))], NODES) == ()


def test_of_two_that_want_a_port_the_first_by_name_has_it() -> None:
    ports = ({**WIREGUARD, "nodePort": 30009},)
    both = [service("zz", *ports), service("aa", WIREGUARD)]
    slices = [pieces(("one", True), name="aa"), pieces(("two", True), name="zz")]
    assert forwards(both, slices, NODES) == (Forward("udp", 51820, "198.51.100.11", 30001),)


def test_the_table_translates_the_destination_alone() -> None:
    found = text(ADDRESS, [Forward("udp", 51820, "198.51.100.12", 30001)])
    assert "ip daddr 192.0.2.10 udp dport 51820 dnat to 198.51.100.12:30001" in found
    assert "masquerade" not in found
    assert found.startswith("table ip zt_balancer\ndelete table ip zt_balancer\n")


class Api:
    """An API server that remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Json]] = []

    def request(self, _method: str, path: str, body: Json, **_: object) -> Answer:
        self.told.append((path, body))
        return Answer(200, body, ())


def balancer(api: Api) -> tuple[Balancer, list[str], list[Forward]]:
    tables: list[str] = []
    forgotten: list[Forward] = []
    made = Balancer(
        api,  # type: ignore[arg-type]
        ADDRESS,
        put=tables.append,
        forget=lambda _address, changed: forgotten.extend(changed),
    )
    return made, tables, forgotten


def test_a_service_is_told_its_address_once() -> None:
    api = Api()
    made, tables, _ = balancer(api)
    made.balance([service()], [pieces(("one", True))], NODES)
    ((path, body),) = api.told
    assert path == "/api/v1/namespaces/mesh/services/tunnel/status"
    known = {**service(), **body}
    made.balance([known], [pieces(("one", True))], NODES)
    assert len(api.told) == len(tables) == 1


def test_connections_of_a_pod_that_moved_are_forgotten() -> None:
    """A peer that goes on sending would reach the old node for ever."""
    made, _, forgotten = balancer(Api())
    made.balance([service("tunnel", WIREGUARD)], [pieces(("one", True))], NODES)
    forgotten.clear()
    made.balance([service("tunnel", WIREGUARD)], [pieces(("two", True))], NODES)
    assert Forward("udp", 51820, "198.51.100.11", 30001) in forgotten


def test_connections_that_began_while_no_pod_was_ready_are_forgotten() -> None:
    """They were led nowhere, and a peer that goes on sending would keep them so."""
    made, _, forgotten = balancer(Api())
    made.balance([service("tunnel", WIREGUARD)], [pieces(("one", False))], NODES)
    assert forgotten == []
    for _ in range(2):
        made.balance([service("tunnel", WIREGUARD)], [pieces(("one", True))], NODES)
    assert forgotten == [Forward("udp", 51820, "198.51.100.11", 30001)]
