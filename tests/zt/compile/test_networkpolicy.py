"""The kernel lets through what ``decide`` allows, what the mesh's own roles need, and no more."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.oracles.networkpolicy import Cluster, Pod, matches
from tests.oracles.networkpolicy_scene import ADDRESSES, Entry, Scene, mistakes
from tests.strategies import TODAY, documents, policies
from zt.compile.networkpolicy import compile_networkpolicies
from zt.effective import effective
from zt.load import assemble, load_policy
from zt.model import ExternalService, Phase, Policy, Rollout, RolloutPhase
from zt.values import Endpoint
from zt.wellknown import (
    EVALUATOR_HEALTH,
    EVALUATOR_WEBHOOK,
    GATEWAY_TUNNEL,
    SIDECAR_HEALTH,
    SIDECAR_INBOUND,
    SIDECAR_PROBES,
)

ROLES = {
    *(443, SIDECAR_HEALTH, SIDECAR_PROBES, EVALUATOR_HEALTH, EVALUATOR_WEBHOOK, GATEWAY_TUNNEL),
}
REAL = load_policy(Path(__file__).parents[3] / "policies")


def compiled(policy: Policy, cluster: str) -> dict[str, Any]:
    """All objects, by path below ``networkpolicies``; no two files have one path."""
    files = list(compile_networkpolicies(effective(policy, TODAY), cluster))
    found = {file.path.removeprefix("networkpolicies/"): file.manifest() for file in files}
    assert len(found) == len(files)
    return found


def with_phases(policy: Policy, phase: Phase, *, declared_only: bool = False) -> Policy:
    step = RolloutPhase("step", phase, phase, declared_only=declared_only)
    return replace(policy, rollout=Rollout("rollout", (step,), "step"))


# --- Properties -----------------------------------------------------------------------------------


@settings(max_examples=500)
@given(policies())
def test_pods_reach_what_decide_allows_and_what_roles_need_and_no_more(policy: Policy) -> None:
    for cluster in policy.mesh.clusters:
        objects = compiled(policy, cluster.name).values()
        assert mistakes(Scene(policy, cluster.name), objects) == set()


@settings(max_examples=500)
@given(policies())
def test_addresses_are_let_in_and_out_as_externals_are_granted(policy: Policy) -> None:
    for found in policy.mesh.clusters:
        scene = Scene(policy, found.name)
        cluster = Cluster(compiled(policy, found.name).values())
        for pod, service in scene.services.items():
            declared = {port.port for port in service.ports}
            for address in ADDRESSES:
                for port in ROLES | declared:
                    seen = cluster.ingress(address, pod, port), cluster.egress(pod, address, port)
                    assert seen == (
                        scene.ingress_from(address, service, port),
                        scene.egress_to(service, address, port),
                    ), (pod.name, address, port)


@given(policies(), st.randoms())
def test_documents_in_any_order_compile_to_the_same_bytes(
    policy: Policy, order: random.Random
) -> None:
    shuffled = list(documents(policy))
    order.shuffle(shuffled)
    for cluster in policy.mesh.clusters:
        one, other = (
            [(file.path, file.text()) for file in compile_networkpolicies(resolved, cluster.name)]
            for resolved in (effective(policy, TODAY), effective(assemble(shuffled), TODAY))
        )
        assert one == other


@given(policies())
def test_what_is_cut_out_of_a_block_lies_strictly_within_it(policy: Policy) -> None:
    """The API server refuses anything else."""
    for cluster in policy.mesh.clusters:
        for block in blocks(list(compiled(policy, cluster.name).values())):
            network = ip_network(block["cidr"])
            for excluded in map(ip_network, block.get("except", ())):
                assert excluded.subnet_of(network)  # type: ignore[arg-type]
                assert excluded != network


def blocks(value: Any) -> Iterator[Any]:  # noqa: ANN401 - any JSON value
    if isinstance(value, dict):
        if "cidr" in value:
            yield value
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from blocks(item)


# --- Mutations: the comparison names just what was changed ----------------------------------------


def peers(objects: dict[str, Any]) -> Iterator[tuple[str, str, int, int]]:
    """All peers that are pods, as (path, side, index of the item, index of the peer)."""
    for path, found in objects.items():
        for side, key in (("ingress", "from"), ("egress", "to")):
            for index, item in enumerate(found["spec"].get(side, ())):
                for number, peer in enumerate(item.get(key, ())):
                    if "podSelector" in peer:
                        yield path, side, index, number


def cells(scene: Scene, found: Any, side: str, item: Any, peer: Any) -> set[Entry]:  # noqa: ANN401 - parts of an object
    """What a peer of an item stands for."""
    name = found["metadata"]["namespace"]
    mine = [pod for pod in scene.pods if selects(found["spec"], name, pod)]
    theirs = [pod for pod in scene.pods if selects(peer, name, pod)]
    pairs = [(a, b) if side == "egress" else (b, a) for a in mine for b in theirs if a != b]
    return {
        (side, source.name, destination.name, port["port"])
        for source, destination in pairs
        for port in item["ports"]
        if port["protocol"] == "TCP"
    }


def selects(peer: Any, namespace: str, pod: Pod) -> bool:  # noqa: ANN401 - part of an object
    labels = {"kubernetes.io/metadata.name": pod.namespace}
    wanted = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    return matches(peer.get("namespaceSelector", wanted), labels) and matches(
        peer["podSelector"], pod.labels
    )


@pytest.mark.parametrize("cluster", ["hanzo-k8s", "lux-k8s"])
def test_a_peer_that_is_dropped_is_missed_by_name(cluster: str) -> None:
    scene, objects = Scene(REAL, cluster), compiled(REAL, cluster)
    tried = 0
    for path, side, index, number in peers(objects):
        changed = copy.deepcopy(objects)
        items = changed[path]["spec"][side]
        key = "to" if side == "egress" else "from"
        peer = items[index][key].pop(number)
        expected = cells(scene, changed[path], side, items[index], peer)
        if not items[index][key]:
            del items[index]
        assert mistakes(scene, changed.values()) == expected, (path, side, peer)
        tried += 1
    assert tried >= 10


@pytest.mark.parametrize(
    ("app", "name"), [("chat", "chat"), ("search", "search"), ("stray", "stray-hanzo")]
)
def test_a_peer_that_is_added_is_found_by_name(app: str, name: str) -> None:
    objects = compiled(REAL, "hanzo-k8s")
    (item,) = objects["hanzo/postgres-ingress.yaml"]["spec"]["ingress"]
    item["from"].append({"podSelector": {"matchLabels": {"app": app}}})
    scene = Scene(REAL, "hanzo-k8s")
    assert mistakes(scene, objects.values()) == {("ingress", name, "postgres", 5432)}


def test_a_port_that_is_added_is_found_by_name() -> None:
    objects = compiled(REAL, "hanzo-k8s")
    (item,) = objects["hanzo/redis-ingress.yaml"]["spec"]["ingress"]
    item["ports"].append({"protocol": "TCP", "port": SIDECAR_INBOUND})
    scene = Scene(REAL, "hanzo-k8s")
    assert mistakes(scene, objects.values()) == {("ingress", "iam", "redis", SIDECAR_INBOUND)}


# --- The real policy, and what properties do not see ----------------------------------------------

# HIP-54, "Microsegmentation via Network Policies".
SPECIFIED = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: postgres-ingress
  namespace: hanzo
spec:
  podSelector:
    matchLabels:
      app: postgres
  policyTypes:
    - Ingress
  ingress:
    - from:
        - podSelector:
            matchLabels:
              app: iam
        - podSelector:
            matchLabels:
              app: gateway
        - podSelector:
            matchLabels:
              app: cloud
        - podSelector:
            matchLabels:
              app: console
      ports:
        - protocol: TCP
          port: 5432
"""


def test_postgres_gets_the_very_policy_of_the_specification() -> None:
    found = compiled(REAL, "hanzo-k8s")["hanzo/postgres-ingress.yaml"]
    assert found["metadata"].pop("labels") == {"app.kubernetes.io/managed-by": "hanzo-zt"}
    assert found == yaml.safe_load(SPECIFIED)


def test_every_peer_says_which_rule_it_is_from() -> None:
    files = compile_networkpolicies(effective(REAL, TODAY), "hanzo-k8s")
    text = next(file.text() for file in files if file.path.endswith("/postgres-ingress.yaml"))
    lines = [line.strip() for line in text.splitlines()]
    for rule, name in {
        "hanzo-core-policy/rule-1": "iam",
        "hanzo-core-policy/rule-2": "gateway",
        "hanzo-platform-policy/rule-1": "cloud",
        "hanzo-platform-policy/rule-2": "console",
    }.items():
        at = lines.index(f"# {rule}")
        assert lines[at + 1 : at + 4] == ["- podSelector:", "matchLabels:", f"app: {name}"]


def test_what_is_written_is_what_is_meant() -> None:
    for file in compile_networkpolicies(effective(REAL, TODAY), "hanzo-k8s"):
        assert yaml.safe_load(file.text()) == file.manifest()
        assert file.header


def test_pods_of_one_service_reach_each_other_on_its_peer_ports_alone() -> None:
    several = tuple(
        replace(one, peer_ports=(7000, 7001)) if one.name == "postgres" else one
        for one in REAL.services
    )
    objects = compiled(replace(REAL, services=several), "hanzo-k8s")
    before = compiled(REAL, "hanzo-k8s")
    for side, key in (("ingress", "from"), ("egress", "to")):
        found, old = (
            policies[f"hanzo/postgres-{side}.yaml"]["spec"].get(side, [])
            for policies in (objects, before)
        )
        (added,) = (item for item in found if item not in old)
        assert added == {
            key: [{"podSelector": {"matchLabels": {"app": "postgres"}}}],
            "ports": [{"protocol": "TCP", "port": 7000}, {"protocol": "TCP", "port": 7001}],
        }
    assert {path for path in objects if objects[path] != before[path]} == {
        "hanzo/postgres-ingress.yaml",
        "hanzo/postgres-egress.yaml",
    }


def test_a_service_that_nobody_may_call_refuses_everybody() -> None:
    objects = compiled(REAL, "hanzo-k8s")
    spec = objects["monitoring/prometheus-ingress.yaml"]["spec"]
    assert spec == {
        "podSelector": {"matchLabels": {"app": "prometheus"}},
        "policyTypes": ["Ingress"],
    }


@pytest.mark.parametrize("phase", [Phase.OBSERVE, Phase.CANARY])
def test_nothing_is_restricted_while_nothing_is_enforced(phase: Phase) -> None:
    assert compiled(with_phases(REAL, phase), "hanzo-k8s") == {}


def test_a_service_that_is_not_enforced_is_lifted_from_the_default_deny() -> None:
    objects = compiled(with_phases(REAL, Phase.OBSERVE, declared_only=True), "hanzo-k8s")
    assert {path for path in objects if "default-deny" in path} == {
        "hanzo/default-deny.yaml",
        "monitoring/default-deny.yaml",
    }
    assert objects["hanzo/default-deny.yaml"]["spec"] == {
        "podSelector": {},
        "policyTypes": ["Ingress", "Egress"],
    }
    assert objects["hanzo/redis-observed.yaml"]["spec"] == {
        "podSelector": {"matchLabels": {"app": "redis"}},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{}],
        "egress": [{}],
    }


def test_without_declared_only_there_is_no_default_deny() -> None:
    objects = compiled(with_phases(REAL, Phase.ENFORCE), "hanzo-k8s")
    assert objects
    assert not [path for path in objects if "default-deny" in path]


def test_names_are_looked_up_by_either_protocol() -> None:
    scene = Scene(REAL, "hanzo-k8s")
    cluster = Cluster(compiled(REAL, "hanzo-k8s").values())
    for pod in scene.services:
        assert cluster.allowed(pod, scene.dns, 53, "UDP")
        assert cluster.allowed(pod, scene.dns, 53, "TCP")
        assert not cluster.allowed(pod, scene.dns, 5353, "UDP")


def gateway_of(policy: Policy, cluster: str) -> tuple[Cluster, Pod]:
    pods = (pod for pod in Scene(policy, cluster).services if pod.name == "wg-gateway")
    return Cluster(compiled(policy, cluster).values()), next(pods)


def test_gateways_talk_wireguard_with_each_other_alone() -> None:
    cluster, pod = gateway_of(REAL, "hanzo-k8s")
    assert cluster.allowed("24.144.69.101", pod, 51820, "UDP")
    assert cluster.allowed(pod, "24.144.69.101", 51820, "UDP")
    assert not cluster.allowed("24.144.69.101", pod, 51820, "TCP")
    assert not cluster.allowed("198.51.100.7", pod, 51820, "UDP")
    assert not cluster.allowed(pod, "198.51.100.7", 51820, "UDP")


def test_a_gateway_that_has_a_name_may_be_anywhere_but_among_the_pods() -> None:
    clusters = tuple(
        replace(found, gateway=replace(found.gateway, endpoint=Endpoint("wg.example.com", 51821)))
        if found.gateway
        else found
        for found in REAL.mesh.clusters
    )
    policy = replace(REAL, mesh=replace(REAL.mesh, clusters=clusters))
    cluster, pod = gateway_of(policy, "lux-k8s")
    assert cluster.allowed("198.51.100.7", pod, 51821, "UDP")
    assert cluster.allowed(pod, "198.51.100.7", 51821, "UDP")
    assert not cluster.allowed("10.240.3.3", pod, 51821, "UDP")
    assert not cluster.allowed("198.51.100.7", pod, 51820, "UDP")


def test_host_names_open_the_way_out_of_the_mesh_and_say_who_holds_them() -> None:
    files = compile_networkpolicies(effective(REAL, TODAY), "hanzo-k8s")
    text = next(file.text() for file in files if file.path.endswith("hanzo/gateway-egress.yaml"))
    assert "api.openai.com, api.anthropic.com: the sidecar holds the names" in text
    (block,) = blocks(yaml.safe_load(text))
    assert block == {
        "cidr": "0.0.0.0/0",
        "except": ["10.240.0.0/16", "10.241.0.0/16", "10.244.0.0/16", "10.245.0.0/16"],
    }


def test_a_network_of_pods_is_no_outside_door() -> None:
    inner = ExternalService("internet", cidrs=(ip_network("10.244.1.0/24"),))
    others = tuple(item for item in REAL.externals if item.name != "internet")
    objects = compiled(replace(REAL, externals=(inner, *others)), "hanzo-k8s")
    assert not list(blocks(objects["hanzo/chat-ingress.yaml"]))
    assert "ingress" not in objects["hanzo/chat-ingress.yaml"]["spec"]


def test_probes_come_from_the_nodes_that_are_declared() -> None:
    node = ip_network("192.168.7.0/24")
    clusters = tuple(replace(found, node_cidrs=(node,)) for found in REAL.mesh.clusters)
    policy = replace(REAL, mesh=replace(REAL.mesh, clusters=clusters))
    assert "hanzo/allow-probes.yaml" not in compiled(REAL, "hanzo-k8s")
    (item,) = compiled(policy, "hanzo-k8s")["hanzo/allow-probes.yaml"]["spec"]["ingress"]
    assert item == {
        "from": [{"ipBlock": {"cidr": "192.168.7.0/24"}}],
        "ports": [
            {"protocol": "TCP", "port": SIDECAR_HEALTH},
            {"protocol": "TCP", "port": SIDECAR_PROBES},
        ],
    }


def test_the_api_server_asks_from_where_it_is_said_to_be() -> None:
    server = ip_network("10.9.0.4/32")
    clusters = tuple(replace(found, api_server_cidrs=(server,)) for found in REAL.mesh.clusters)
    known = replace(REAL, mesh=replace(REAL.mesh, clusters=clusters))
    for policy, peers in ((REAL, None), (known, [{"ipBlock": {"cidr": "10.9.0.4/32"}}])):
        items = compiled(policy, "hanzo-k8s")["hanzo/zt-policy-engine-ingress.yaml"]["spec"]
        (item,) = (one for one in items["ingress"] if one["ports"][0]["port"] == EVALUATOR_WEBHOOK)
        assert item.get("from") == peers


def test_services_selected_otherwise_than_by_app_keep_what_sidecars_need() -> None:
    selectors = {
        "chat": (("app.kubernetes.io/name", "chat"),),
        "flow": (("app.kubernetes.io/name", "flow"),),
        "redis": (("app", "redis"), ("tier", "data")),
    }
    services = tuple(
        replace(item, selector=selectors.get(item.name, item.selector)) for item in REAL.services
    )
    objects = compiled(replace(REAL, services=services), "hanzo-k8s")
    assert objects["hanzo/allow-dns.chat.yaml"]["spec"]["podSelector"] == {
        "matchExpressions": [
            {"key": "app.kubernetes.io/name", "operator": "In", "values": ["chat", "flow"]}
        ]
    }
    assert objects["hanzo/allow-dns.redis.yaml"]["spec"]["podSelector"] == {
        "matchLabels": {"app": "redis", "tier": "data"}
    }
    (named,) = objects["hanzo/allow-dns.yaml"]["spec"]["podSelector"]["matchExpressions"]
    assert not {"chat", "flow", "redis"} & set(named["values"])
