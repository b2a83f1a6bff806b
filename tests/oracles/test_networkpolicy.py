"""The evaluator of NetworkPolicies, on cases whose outcome the API reference states."""

from __future__ import annotations

from typing import Any

import pytest

from tests.oracles.networkpolicy import Cluster, Pod, matches

WEB = Pod("web", "shop", {"app": "web"}, "10.0.0.1")
DB = Pod("db", "shop", {"app": "db", "tier": "data"}, "10.0.0.2", {"sql": 5432})
SPY = Pod("spy", "lab", {"app": "web"}, "10.0.0.3")
SCRAPER = Pod("scraper", "lab", {"app": "scraper"}, "10.0.0.4")
NAMESPACES = {"lab": {"team": "research"}}


def policy(spec: dict[str, Any], namespace: str = "shop") -> dict[str, Any]:
    metadata = {"name": "p", "namespace": namespace}
    return {"metadata": metadata, "spec": {"podSelector": {}, **spec}}


def cluster(*specs: dict[str, Any]) -> Cluster:
    return Cluster([policy(spec) for spec in specs], NAMESPACES)


def admitted(*items: dict[str, Any]) -> set[str]:
    """Who of all reaches port 5432 of the database, given the items of an ingress policy."""
    found = cluster({"podSelector": {"matchLabels": {"app": "db"}}, "ingress": list(items)})
    return {pod.name for pod in (WEB, SPY, SCRAPER) if found.allowed(pod, DB, 5432)}


def test_without_policies_everything_is_allowed() -> None:
    assert Cluster([]).allowed(SPY, DB, 5432)


def test_a_policy_isolates_only_the_pods_that_it_selects() -> None:
    found = cluster({"podSelector": {"matchLabels": {"app": "db"}}})
    assert not found.allowed(WEB, DB, 5432)
    assert found.allowed(DB, WEB, 80)
    assert found.allowed(WEB, SPY, 80)


def test_a_policy_holds_only_in_its_namespace() -> None:
    found = Cluster([policy({}, namespace="lab")])
    assert found.allowed(SPY, DB, 5432)
    assert not found.allowed(DB, SPY, 80)


def test_a_pod_always_reaches_itself() -> None:
    assert cluster({"policyTypes": ["Ingress", "Egress"]}).allowed(DB, DB, 5432)


@pytest.mark.parametrize("items", [{}, {"ingress": []}, {"ingress": None}])
def test_no_item_allows_nobody(items: dict[str, Any]) -> None:
    assert not cluster({"policyTypes": ["Ingress"], **items}).allowed(WEB, DB, 5432)


@pytest.mark.parametrize("item", [{}, {"from": []}, {"ports": []}])
def test_an_empty_item_allows_everybody(item: dict[str, Any]) -> None:
    assert admitted(item) == {"web", "spy", "scraper"}


def test_a_pod_selector_alone_means_pods_of_the_same_namespace() -> None:
    assert admitted({"from": [{"podSelector": {"matchLabels": {"app": "web"}}}]}) == {"web"}


def test_an_empty_pod_selector_means_all_pods_of_the_same_namespace() -> None:
    assert admitted({"from": [{"podSelector": {}}]}) == {"web"}


def test_a_namespace_selector_alone_means_all_pods_of_those_namespaces() -> None:
    peer = {"namespaceSelector": {"matchLabels": {"team": "research"}}}
    assert admitted({"from": [peer]}) == {"spy", "scraper"}


def test_an_empty_namespace_selector_means_all_namespaces() -> None:
    assert admitted({"from": [{"namespaceSelector": {}}]}) == {"web", "spy", "scraper"}


def test_both_selectors_in_one_entry_must_hold() -> None:
    peer = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "lab"}},
        "podSelector": {"matchLabels": {"app": "web"}},
    }
    assert admitted({"from": [peer]}) == {"spy"}


def test_of_two_entries_either_may_hold() -> None:
    peers = [
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "lab"}}},
        {"podSelector": {"matchLabels": {"app": "web"}}},
    ]
    assert admitted({"from": peers}) == {"web", "spy", "scraper"}


def test_policies_add_up() -> None:
    deny: dict[str, Any] = {"policyTypes": ["Ingress"]}
    allow: dict[str, Any] = {"ingress": [{"from": [{"podSelector": {}}]}]}
    assert cluster(deny, allow).allowed(WEB, DB, 5432)


def test_both_ends_must_allow() -> None:
    egress = {
        "podSelector": {"matchLabels": {"app": "web"}},
        "policyTypes": ["Egress"],
        "egress": [{"to": [{"podSelector": {"matchLabels": {"app": "db"}}}]}],
    }
    assert cluster(egress).allowed(WEB, DB, 5432)
    assert not cluster(egress).allowed(WEB, SPY, 80)
    assert not cluster(egress, {"podSelector": {"matchLabels": {"app": "db"}}}).allowed(
        WEB, DB, 5432
    )


@pytest.mark.parametrize(
    ("spec", "ingress", "egress"),
    [
        ({}, False, True),
        ({"egress": []}, False, True),
        ({"egress": [{}]}, False, True),
        ({"egress": [{"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}]}, False, False),
        ({"policyTypes": ["Egress"]}, True, False),
        ({"policyTypes": ["Egress"], "ingress": [{}]}, True, False),
        ({"policyTypes": ["Ingress", "Egress"]}, False, False),
    ],
)
def test_types_that_are_not_given_follow_from_the_items(
    spec: dict[str, Any],
    ingress: bool,  # noqa: FBT001 - a column of the table
    egress: bool,  # noqa: FBT001 - a column of the table
) -> None:
    found = cluster(spec)
    assert found.ingress(SPY, DB, 5432) is ingress
    assert found.egress(DB, SPY, 80) is egress


@pytest.mark.parametrize(
    ("address", "inside"),
    [("198.51.100.7", True), ("198.51.100.130", False), ("203.0.113.1", False), ("::1", False)],
)
def test_a_block_is_its_network_without_the_exceptions(address: str, inside: bool) -> None:  # noqa: FBT001 - a column of the table
    block = {"cidr": "198.51.100.0/24", "except": ["198.51.100.128/25"]}
    found = cluster({"ingress": [{"from": [{"ipBlock": block}]}]})
    assert found.allowed(address, DB, 5432) is inside


def test_a_block_also_means_pods_with_such_an_address() -> None:
    assert admitted({"from": [{"ipBlock": {"cidr": "10.0.0.3/32"}}]}) == {"spy"}


def test_selectors_never_mean_what_is_no_pod() -> None:
    found = cluster({"ingress": [{"from": [{"namespaceSelector": {}}]}]})
    assert not found.allowed("198.51.100.7", DB, 5432)


@pytest.mark.parametrize(
    ("port", "number", "protocol", "open_"),
    [
        ({"port": 5432}, 5432, "TCP", True),
        ({"port": 5432}, 5433, "TCP", False),
        ({"port": 5432}, 5432, "UDP", False),
        ({"port": 53, "protocol": "UDP"}, 53, "UDP", True),
        ({"protocol": "UDP"}, 9, "UDP", True),
        ({"protocol": "UDP"}, 9, "TCP", False),
        ({"port": 8000, "endPort": 8010}, 7999, "TCP", False),
        ({"port": 8000, "endPort": 8010}, 8000, "TCP", True),
        ({"port": 8000, "endPort": 8010}, 8010, "TCP", True),
        ({"port": 8000, "endPort": 8010}, 8011, "TCP", False),
        ({"port": "sql"}, 5432, "TCP", True),
        ({"port": "sql"}, 80, "TCP", False),
        ({"port": "http"}, 80, "TCP", False),
    ],
)
def test_ports(port: dict[str, Any], number: int, protocol: str, open_: bool) -> None:  # noqa: FBT001 - a column of the table
    assert cluster({"ingress": [{"ports": [port]}]}).allowed(WEB, DB, number, protocol) is open_


def test_a_named_port_of_an_egress_item_is_the_destinations() -> None:
    found = cluster({"policyTypes": ["Egress"], "egress": [{"ports": [{"port": "sql"}]}]})
    assert found.allowed(WEB, DB, 5432)
    assert not found.allowed(DB, WEB, 5432)
    assert not found.allowed(WEB, "198.51.100.7", 5432)


@pytest.mark.parametrize(
    ("expression", "labels", "selected"),
    [
        ({"operator": "In", "values": ["a", "b"]}, {"k": "b"}, True),
        ({"operator": "In", "values": ["a", "b"]}, {}, False),
        ({"operator": "NotIn", "values": ["a"]}, {"k": "a"}, False),
        ({"operator": "NotIn", "values": ["a"]}, {}, True),
        ({"operator": "Exists"}, {"k": ""}, True),
        ({"operator": "Exists"}, {}, False),
        ({"operator": "DoesNotExist"}, {}, True),
        ({"operator": "DoesNotExist"}, {"k": "a"}, False),
    ],
)
def test_expressions(expression: dict[str, Any], labels: dict[str, str], selected: bool) -> None:  # noqa: FBT001 - a column of the table
    assert matches({"matchExpressions": [{"key": "k", **expression}]}, labels) is selected


def test_labels_and_expressions_of_a_selector_must_all_hold() -> None:
    selector = {
        "matchLabels": {"app": "db"},
        "matchExpressions": [{"key": "tier", "operator": "Exists"}],
    }
    assert matches(selector, DB.labels)
    assert not matches(selector, {"app": "db"})
