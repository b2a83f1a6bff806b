"""What pods need is what their sidecars were compiled for."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import given, settings

from tests.strategies import TODAY, policies
from tests.zt.inject.samples import EAST
from zt.compile.envoy import compile_envoy
from zt.effective import effective
from zt.inject import injection_of
from zt.inject.needs import from_text, to_text
from zt.model import Policy, Service


@settings(max_examples=25)
@given(policies())
def test_what_is_written_reads_back(policy: Policy) -> None:
    for cluster in policy.mesh.clusters:
        found = injection_of(effective(policy, TODAY), cluster.name)
        assert from_text(to_text(found)) == found


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"services": [1]}', '{"services": [{}]}', "null"]
)
def test_what_is_no_table_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"table|Expecting"):
        from_text(text)


@settings(max_examples=25)
@given(policies())
def test_pods_lead_to_the_sidecar_where_it_listens_and_nowhere_else(policy: Policy) -> None:
    resolved = effective(policy, TODAY)
    for cluster in policy.mesh.clusters:
        files = {file.path: file for file in compile_envoy(resolved, cluster.name)}
        for needs in injection_of(resolved, cluster.name).services:
            listeners = files[f"envoy/{needs.service}/listeners.yaml"]
            bound = dict(_bound(listeners.manifest()))
            captured = {f"inbound-{port}": inbound for port, inbound in needs.captured.items()}
            outbound = {name: at for name, at in bound.items() if name.startswith("outbound-")}
            inbound = {n: at[1] for n, at in bound.items() if n.startswith("inbound-")}
            assert inbound == captured
            assert set(outbound.values()) == {
                (alias.address, port) for alias in needs.aliases for port in alias.ports
            }
            roles = {at[1] for name, at in bound.items() if name.startswith("gateway-")}
            assert roles <= set(needs.listens)


def _bound(content: dict[str, Any]) -> Any:  # noqa: ANN401 - pairs of a name and an address
    for item in content["resources"]:
        socket = item["address"]["socket_address"]
        yield item["name"], (socket["address"], socket["port_value"])


@settings(max_examples=25)
@given(policies())
def test_a_name_leads_one_way_and_the_nearest_has_it(policy: Policy) -> None:
    resolved = effective(policy, TODAY)
    for cluster in policy.mesh.clusters:
        for item in resolved.in_cluster(cluster.name):
            needs = injection_of(resolved, cluster.name).of(
                item.service.namespace, item.service.account
            )
            assert needs is not None
            names = [name for alias in needs.aliases for name in alias.names]
            assert len(names) == len(set(names))
            for grant in item.upstreams:
                called = grant.destination
                assert isinstance(called, Service)
                qualified = f"{called.name}.{called.namespace}"
                near = called.cluster == cluster.name
                assert (qualified if near else f"{qualified}.{called.cluster}") in names
                if near and called.namespace == item.service.namespace:
                    assert called.name in names
    addresses = [ipaddress.ip_address(alias.address) for n in EAST.services for alias in n.aliases]
    assert all(address in ipaddress.ip_network("127.64.0.0/10") for address in addresses)


def test_names_are_those_that_dns_would_know_in_the_pod() -> None:
    shop = EAST.of("web", "shop")
    assert shop is not None
    names = {name for alias in shop.aliases for name in alias.names}
    assert {"collector", "collector.web", "database.data", "api.payments.example"} <= names
    assert {"ledger.web.west", "ledger.web.svc.cluster.local"} <= names
    assert not {"database", "ledger", "payments"} & names
