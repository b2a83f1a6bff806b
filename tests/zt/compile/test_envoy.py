"""The sidecar's planes hold what `decide` says, and a real Envoy takes every compiled file."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.oracles.envoy import (
    Connection,
    admits,
    asks_evaluator,
    handshake_admits,
    load,
    rbac_admits,
)
from tests.strategies import TODAY, documents, policies
from zt.compile.envoy import compile_envoy
from zt.decide import Verdict, decide, decision_table
from zt.effective import Effective, EffectiveService, Inbound, effective, party_id
from zt.load import assemble, load_policy
from zt.model import ExternalService, Phase, Policy

Edge = tuple[str, str, int]


def sidecars(
    policy: Policy, wanted: tuple[str, ...] = ("",)
) -> Iterator[tuple[EffectiveService, dict[str, str]]]:
    """Each service and the files of its sidecar, those whose names begin as wanted."""
    resolved = effective(policy, TODAY)
    for place in (*(c.name for c in policy.mesh.clusters), *policy.mesh.outside):
        files = {
            file.path: file.text()
            for file in compile_envoy(resolved, place)
            if file.path.split("/")[-1].startswith(wanted)
        }
        for service in resolved.in_cluster(place):
            folder = f"envoy/{service.service.name}/"
            yield (
                service,
                {p.removeprefix(folder): t for p, t in files.items() if p.startswith(folder)},
            )


def identities(resolved: Effective) -> list[str]:
    """Every declared identity, and some that nobody declares."""
    trust_domain = resolved.mesh.trust_domain
    return [
        *(service.spiffe for service in resolved.services),
        f"spiffe://{trust_domain}/east/web/nobody-declared-this",
        f"spiffe://{trust_domain}/nobody",
        "spiffe://evil.example/east/web/api",
    ]


def captured(policy: Policy, service: EffectiveService) -> tuple[Inbound, ...]:
    """The ports that a sidecar stands before: the evaluator stands for itself."""
    return () if service.service.name == policy.mesh.infrastructure.evaluator else service.inbound


def truth(policy: Policy) -> set[Edge]:
    """Edges that `decide` allows, between services."""
    resolved, table = effective(policy, TODAY), decision_table(policy, TODAY)
    return {
        (source, service.spiffe, inbound.port.port)
        for service in resolved.services
        for inbound in captured(policy, service)
        for source in identities(resolved)
        if decide(table, source, service.spiffe, inbound.port.port).verdict is Verdict.ALLOW
    }


def lists(policy: Policy) -> Iterator[tuple[str, set[Edge]]]:
    """Edges that each list of enforced ports lets pass, by plane."""
    names = identities(effective(policy, TODAY))
    enforcing = [
        pair for pair in sidecars(policy, ("clients-", "rbac-")) if pair[0].phase is Phase.ENFORCE
    ]
    for plane, passes in (("handshake", handshake_admits), ("RBAC", rbac_admits)):
        yield (
            plane,
            {
                (source, service.spiffe, inbound.port.port)
                for service, files in enforcing
                for inbound in captured(policy, service)
                for source in names
                if source != service.spiffe and passes(files, inbound.port.port, source)
            },
        )


def enforced(policy: Policy, edges: set[Edge]) -> set[Edge]:
    phases = {service.spiffe: service.phase for service in effective(policy, TODAY).services}
    return {edge for edge in edges if phases[edge[1]] is Phase.ENFORCE}


@settings(max_examples=500)
@given(policies())
def test_lists_of_an_enforced_port_are_what_decide_allows(policy: Policy) -> None:
    expected = enforced(policy, truth(policy))
    for plane, edges in lists(policy):
        assert edges == expected, plane


@settings(max_examples=200)
@given(policies())
def test_a_listener_admits_what_its_phase_says(policy: Policy) -> None:
    resolved, table = effective(policy, TODAY), decision_table(policy, TODAY)
    pod = str(policy.mesh.clusters[0].pod_cidr[7])
    for service, files in sidecars(policy):
        is_enforced = service.phase is Phase.ENFORCE
        for inbound in captured(policy, service):
            port = inbound.port.port
            for source in identities(resolved):
                if source == service.spiffe:
                    continue
                allowed = decide(table, source, service.spiffe, port).verdict is Verdict.ALLOW
                of_domain = source.startswith(f"spiffe://{policy.mesh.trust_domain}/")
                passes = admits(files, port, Connection(pod, source))
                assert passes == (allowed if is_enforced else of_domain), (source, port)
            # Without an identity a pod has no way in, but where everything is observed.
            assert admits(files, port, Connection(pod)) is not is_enforced


@settings(max_examples=200)
@given(policies())
def test_the_door_for_the_outside_opens_for_declared_addresses_alone(policy: Policy) -> None:
    pods = [cluster.pod_cidr for cluster in policy.mesh.clusters]
    addresses = ("203.0.113.9", "198.51.100.7", "192.0.2.1", "10.77.1.1", str(pods[0][9]))
    for service, files in sidecars(policy):
        if service.phase is not Phase.ENFORCE:
            continue
        for inbound in captured(policy, service):
            for address in addresses:
                expected = _outside_may(policy, inbound.externals, address)
                assert admits(files, inbound.port.port, Connection(address)) == expected


def _outside_may(policy: Policy, grants: tuple[object, ...], address: str) -> bool:
    ip = ipaddress.ip_address(address)
    if any(ip in cluster.pod_cidr for cluster in policy.mesh.clusters):
        return False
    sources = [getattr(grant, "source", None) for grant in grants]
    return any(
        ip in network
        for source in sources
        if isinstance(source, ExternalService)
        for network in source.cidrs
        if network.version == ip.version
    )


@settings(max_examples=50)
@given(policies())
def test_no_sidecar_stands_before_the_evaluator(policy: Policy) -> None:
    evaluators = [
        files
        for service, files in sidecars(policy)
        if service.service.name == policy.mesh.infrastructure.evaluator
    ]
    assert evaluators
    for files in evaluators:
        assert not [name for name in files if name.startswith(("clients-", "rbac-"))]
        names = [item["name"] for item in load(files["listeners.yaml"])["resources"]]
        assert not [name for name in names if name.startswith("inbound-")]


@settings(max_examples=50)
@given(policies())
def test_what_is_dialled_by_name_is_not_looked_up_in_the_pods_own_hosts(policy: Policy) -> None:
    """There the name leads to the sidecar itself; Envoy reads that file."""
    for service, files in sidecars(policy, ("clusters",)):
        for item in load(files["clusters.yaml"])["resources"]:
            if item["type"] == "STRICT_DNS" and service.service.outside is None:
                (locality,) = item["load_assignment"]["endpoints"]
                (endpoint,) = locality["lb_endpoints"]
                address = endpoint["endpoint"]["address"]["socket_address"]["address"]
                assert address.endswith(".")


@settings(max_examples=100)
@given(policies())
def test_the_evaluator_is_asked_and_its_silence_refuses_where_enforced(policy: Policy) -> None:
    for service, files in sidecars(policy):
        for inbound in captured(policy, service):
            port = inbound.port.port
            fails_open = asks_evaluator(files, port, Connection("10.0.0.1", service.spiffe))
            assert fails_open is (service.phase is not Phase.ENFORCE)


@settings(max_examples=100)
@given(policies(), st.randoms())
def test_documents_in_any_order_compile_to_the_same_bytes(policy: Policy, random: object) -> None:
    shuffled = list(documents(policy))
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert list(sidecars(assemble(shuffled))) == list(sidecars(policy))


def test_one_entry_too_many_is_the_one_difference() -> None:
    policy = load_policy("policies")
    planes = dict(lists(policy))
    assert planes["handshake"] == enforced(policy, truth(policy))
    service, files = next(pair for pair in sidecars(policy) if pair[0].service.name == "postgres")
    chat = "spiffe://hanzo.ai/hanzo-k8s/hanzo/chat"
    for name, passes in (("clients-5432.yaml", handshake_admits), ("rbac-5432.yaml", rbac_admits)):
        iam = "spiffe://hanzo.ai/hanzo-k8s/hanzo/iam"
        flipped = files | {name: files[name].replace(iam, chat)}
        names = identities(effective(policy, TODAY))
        differ = {i for i in names if passes(files, 5432, i) != passes(flipped, 5432, i)}
        assert differ == {iam, chat}, service.spiffe


def test_an_edge_across_clusters_has_a_route_in_both_gateways_and_nothing_else_has() -> None:
    policy = load_policy("policies")
    resolved = effective(policy, TODAY)
    crossing = {
        f"{grant.port}.{grant.destination.name}.{service.service.namespace}.{service.service.cluster}"
        for service in resolved.services
        for inbound in service.inbound
        for grant in inbound.clients
        if party_id(grant.source, policy.mesh).split("/")[3] != service.service.cluster
    }
    routes = {
        chain["name"]
        for service, files in sidecars(policy)
        if service.service.name == "wg-gateway"
        for listener in load(files["listeners.yaml"])["resources"]
        if listener["name"] == "gateway-arrivals"
        for chain in listener["filter_chains"]
    }
    assert routes == crossing
    assert "4000.gateway.hanzo.hanzo-k8s" in routes


def test_a_host_outside_is_reached_by_its_declared_names_alone() -> None:
    files = next(f for s, f in sidecars(load_policy("policies")) if s.service.name == "gateway")
    (listener,) = [
        item
        for item in load(files["listeners.yaml"])["resources"]
        if item["name"] == "outbound-model-provider-443"
    ]
    names = [chain["filter_chain_match"]["server_names"] for chain in listener["filter_chains"]]
    assert names == [["api.openai.com"], ["api.anthropic.com"]]


@pytest.mark.parametrize("name", ["clients-3000.yaml", "clients-3001.yaml", "clients-9090.yaml"])
def test_a_port_without_clients_has_a_list_that_nobody_is_on(name: str) -> None:
    lists_of = [files[name] for _, files in sidecars(load_policy("policies")) if name in files]
    assert lists_of
    for text in lists_of:
        matchers = load(text)["resources"][0]["validation_context"]["match_typed_subject_alt_names"]
        assert matchers == [{"san_type": "URI", "matcher": {"exact": "nobody"}}]
