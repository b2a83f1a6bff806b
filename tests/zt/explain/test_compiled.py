"""What explanations say of a plane, against what is compiled for it."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product

from hypothesis import given, settings

from tests.oracles.envoy import handshake_admits, rbac_admits
from tests.oracles.networkpolicy import Cluster, Pod
from tests.strategies import TODAY, policies
from zt.bundle import Bundle
from zt.compile import compile_policy
from zt.decide import decision_table
from zt.effective import Effective, effective
from zt.explain import Explanation, Stance, explain
from zt.graph import parties
from zt.model import ExternalService, Mesh, Phase, Policy, Service
from zt.wellknown import GATEWAY_LOCAL, server_name

UNDECLARED = 7


@dataclass
class Compiled:
    """A policy, what is compiled from it, and every connection that one might ask about."""

    policy: Policy

    @cached_property
    def resolved(self) -> Effective:
        return effective(self.policy, TODAY)

    @cached_property
    def bundles(self) -> dict[str, Bundle]:
        mesh = self.policy.mesh
        places = [*(cluster.name for cluster in mesh.clusters), *mesh.outside]
        return {place: compile_policy(self.policy, place, TODAY) for place in places}

    @cached_property
    def networks(self) -> dict[str, Cluster]:
        return {
            place: Cluster([file.manifest() for file in bundle.under("networkpolicies")])
            for place, bundle in self.bundles.items()
        }

    def gateway(self, cluster: str) -> Pod:
        found = self.resolved.find(cluster, self.policy.mesh.infrastructure.gateway)
        assert found
        return pod(found.service, self.policy.mesh)

    def routes(self, cluster: str) -> dict[str, set[str]]:
        """Names by which the gateway's Envoy passes TLS on, by listener."""
        name = self.policy.mesh.infrastructure.gateway
        file = self.bundles[cluster].file(f"envoy/{name}/listeners.yaml")
        return {
            one["name"]: {chain["name"] for chain in one["filter_chains"]}
            for one in file.manifest()["resources"]
            if one["name"].startswith("gateway-")
        }

    def explanations(self) -> Iterator[Explanation]:
        table = decision_table(self.policy, TODAY)
        for source, destination in product(table.ports, repeat=2):
            if source != destination:
                for port in (*table.ports[destination], UNDECLARED):
                    yield explain(self.resolved, table, source, destination, port)


def pod(service: Service, mesh: Mesh) -> Pod:
    """A pod of a service, at an address of its cluster."""
    cluster = mesh.cluster(service.cluster)
    assert cluster
    return Pod(service.name, service.namespace, service.labels, str(cluster.pod_cidr[5]))


def address(external: ExternalService) -> str:
    """One of its addresses, far from any pod; where it has names alone, anywhere outside."""
    return str(external.cidrs[0][-10]) if external.cidrs else "198.18.0.1"


def stance(explanation: Explanation, plane: str) -> Stance:
    return next(one.stance for one in explanation.planes if one.plane == plane)


@settings(max_examples=25)
@given(policies())
def test_the_lists_of_the_sidecar_admit_whom_the_explanation_says(policy: Policy) -> None:
    compiled = Compiled(policy)
    known = parties(compiled.resolved)

    for told in compiled.explanations():
        source, called = known[told.source], known[told.destination]
        declared = isinstance(called, Service) and called.port(told.port)
        if not (declared and isinstance(called, Service) and isinstance(source, Service)):
            continue
        folder = f"envoy/{called.name}"
        under = compiled.bundles[called.cluster].under(folder)
        files = {file.path.removeprefix(f"{folder}/"): file.text() for file in under}
        if called.name == policy.mesh.infrastructure.evaluator:
            assert f"clients-{told.port}.yaml" not in files
            assert stance(told, "handshake") is Stance.OPEN
            assert stance(told, "sidecar RBAC") is Stance.ABSENT
            continue
        admitted = handshake_admits(files, told.port, told.source)
        assert admitted is (stance(told, "handshake") is not Stance.REFUSES)
        if told.phase is Phase.ENFORCE:
            admitted = rbac_admits(files, told.port, told.source)
            assert admitted is (stance(told, "sidecar RBAC") is Stance.ALLOWS)
        else:
            assert f"rbac-{told.port}.yaml" not in files
            assert stance(told, "sidecar RBAC") is Stance.OPEN


@settings(max_examples=25)
@given(policies())
def test_network_policies_let_pass_what_the_explanation_says(policy: Policy) -> None:
    compiled = Compiled(policy)
    known = parties(compiled.resolved)

    for told in compiled.explanations():
        source, called = known[told.source], known[told.destination]
        if isinstance(source, Service) and source.outside is None:
            said = stance(told, "NetworkPolicy egress")
            assert agrees(said, lets_out(compiled, source, called, told.port), called), told
        if isinstance(called, Service) and called.outside is None:
            said = stance(told, "NetworkPolicy ingress")
            assert agrees(said, lets_in(compiled, source, called, told.port), source), told


def agrees(said: Stance, passes: bool, peer: Service | ExternalService) -> bool:  # noqa: FBT001
    """Open, said of an external, means some of its addresses: perhaps not the one we tried."""
    if said is Stance.OPEN and isinstance(peer, ExternalService):
        return True
    return passes is not (said is Stance.REFUSES)


@settings(max_examples=25)
@given(policies())
def test_gateways_route_what_the_explanation_says(policy: Policy) -> None:
    compiled = Compiled(policy)
    known = parties(compiled.resolved)

    for told in compiled.explanations():
        source, called = known[told.source], known[told.destination]
        if not (isinstance(source, Service) and isinstance(called, Service)):
            continue
        said = {one.plane: one.stance for one in told.planes}.get("tunnel")
        if source.cluster == called.cluster:
            assert said is None
        elif said is not Stance.REFUSES:
            sni = server_name(told.port, called.name, called.namespace, called.cluster)
            assert sni in compiled.routes(called.cluster)["gateway-arrivals"]
            assert source.outside or sni in compiled.routes(source.cluster)["gateway-local"]
        else:
            assert not told.allowed or (source.outside and not source.outside.cidrs)


def lets_out(
    compiled: Compiled, source: Service, called: Service | ExternalService, port: int
) -> bool:
    network, mesh = compiled.networks[source.cluster], compiled.policy.mesh
    if isinstance(called, ExternalService):
        return network.egress(pod(source, mesh), address(called), port)
    if called.cluster == source.cluster:
        return network.egress(pod(source, mesh), pod(called, mesh), port)
    return network.egress(pod(source, mesh), compiled.gateway(source.cluster), GATEWAY_LOCAL)


def lets_in(
    compiled: Compiled, source: Service | ExternalService, called: Service, port: int
) -> bool:
    network, mesh = compiled.networks[called.cluster], compiled.policy.mesh
    if isinstance(source, ExternalService):
        return network.ingress(address(source), pod(called, mesh), port)
    if called.cluster == source.cluster:
        return network.ingress(pod(source, mesh), pod(called, mesh), port)
    return network.ingress(compiled.gateway(called.cluster), pod(called, mesh), port)
