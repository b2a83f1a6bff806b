"""What the mesh itself needs: of every sidecar, and of the services that the mesh runs on."""

from __future__ import annotations

from collections.abc import Iterator

from zt.bundle import CompiledFile
from zt.compile.networkpolicy.grants import crossing
from zt.compile.networkpolicy.objects import Block, Flow, Pods, Port, groups, policy, rules
from zt.compile.networkpolicy.view import View
from zt.effective import party_id
from zt.model import Service
from zt.wellknown import (
    EVALUATOR_GRPC,
    EVALUATOR_HEALTH,
    EVALUATOR_WEBHOOK,
    GATEWAY_LOCAL,
    GATEWAY_TUNNEL,
    SIDECAR_HEALTH,
    SIDECAR_METRICS,
    SIDECAR_PROBES,
    WIREGUARD_LANES,
)

_DNS = Pods("kube-system", (("k8s-app", ("kube-dns",)),))


def ingress_roles(view: View, service: Service) -> Iterator[Flow]:
    """Who calls a service for the role that it has in the mesh."""
    if service is view.evaluator:
        yield from _all_pods(view, EVALUATOR_GRPC, "Baseline: every sidecar asks the evaluator.")
        yield from _nodes(view, EVALUATOR_HEALTH, "Baseline: the kubelets' probes.")
        yield from _api_server(view)
    if service is view.gateway:
        yield from _into_gateway(view)


def egress_roles(view: View, service: Service) -> Iterator[Flow]:
    """What a service calls for the role that it has in the mesh."""
    if service is view.metrics:
        yield from _all_pods(view, SIDECAR_METRICS, "Baseline: the metrics of every sidecar.")
    if service is view.gateway:
        yield from _out_of_gateway(view)


def _all_pods(view: View, port: int, why: str) -> Iterator[Flow]:
    for _, pods in groups(item.service for item in view.services):
        yield Flow(pods, Port(port), why)


def _nodes(view: View, port: int, why: str) -> Iterator[Flow]:
    for node in view.cluster.node_cidrs:
        yield Flow(Block(str(node)), Port(port), why)


def _api_server(view: View) -> Iterator[Flow]:
    """The API server asks about new pods; where it calls from, only a cluster's operator knows."""
    why = "Baseline: the API server asks which sidecar a new pod needs."
    port = Port(EVALUATOR_WEBHOOK)
    if not view.cluster.api_server_cidrs:
        yield Flow(None, port, f"{why} From anywhere: the mesh has no apiServerCIDRs.")
    for network in view.cluster.api_server_cidrs:
        yield Flow(Block(str(network)), port, why)


# --- The gateway ----------------------------------------------------------------------------------


def _into_gateway(view: View) -> Iterator[Flow]:
    """From pods that call other clusters, from services outside Kubernetes, from its peers.

    A service outside calls the gateway's Envoy directly, with its own SVID; one that does not say
    where it calls from is not let in.
    """
    for grant in view.leaving:
        if isinstance(grant.source, Service):
            yield Flow(view.pods(grant.source), Port(GATEWAY_LOCAL), crossing(view, grant))
    for grant in view.arriving:
        if isinstance(grant.source, Service) and grant.source.outside:
            why = f"{grant.rule.name}: {party_id(grant.source, view.effective.mesh)}"
            for block in view.sources(grant.source.outside.cidrs):
                yield Flow(block, Port(GATEWAY_TUNNEL), why)
    for _, flow in _tunnel(view):
        yield flow


def _out_of_gateway(view: View) -> Iterator[Flow]:
    """To what other places may call here, and to its peers."""
    for grant in view.arriving:
        if isinstance(grant.destination, Service):
            why = f"{grant.rule.name}: {party_id(grant.source, view.effective.mesh)}"
            yield Flow(view.pods(grant.destination), Port(grant.port), why)
    for flow, _ in _tunnel(view):
        yield flow


def _tunnel(view: View) -> Iterator[tuple[Flow, Flow]]:
    """WireGuard with each other gateway: to its ports, and to our own."""
    own = view.cluster.gateway
    for other in sorted(view.effective.mesh.clusters, key=lambda cluster: cluster.name):
        if own and other.gateway and other.name != view.cluster.name:
            theirs = other.gateway.endpoint
            why = f"Baseline: WireGuard with {other.name}, {theirs}."
            for block in view.endpoint(theirs.host):
                for lane in range(WIREGUARD_LANES):
                    yield (
                        Flow(block, Port(theirs.port + lane, "UDP"), why),
                        Flow(block, Port(own.endpoint.port + lane, "UDP"), why),
                    )


# --- Every sidecar --------------------------------------------------------------------------------


def baseline(view: View) -> Iterator[CompiledFile]:
    """The policies by which every enforced service keeps what its sidecar needs."""
    for first, pods in groups(item.service for item in view.enforced):
        suffix = f".{first}" if first else ""
        for name, header, flows in _needed_egress(view):
            items = rules("to", pods.namespace, flows)
            yield policy(name + suffix, pods, header, egress=items)
        for name, header, flows in _needed_ingress(view):
            items = rules("from", pods.namespace, flows)
            yield policy(name + suffix, pods, header, ingress=items)


def _needed_egress(view: View) -> Iterator[tuple[str, str, list[Flow]]]:
    flows = [Flow(_DNS, Port(53, protocol), "Cluster DNS.") for protocol in ("UDP", "TCP")]
    yield "allow-dns", "Baseline: enforced services look up names.", flows
    if view.evaluator:
        port = Port(EVALUATOR_GRPC)
        flows = [Flow(view.pods(view.evaluator), port, "The evaluator of this cluster.")]
        yield "allow-evaluator", "Baseline: sidecars ask for decisions, and report.", flows


def _needed_ingress(view: View) -> Iterator[tuple[str, str, list[Flow]]]:
    if view.metrics:
        flows = [Flow(view.pods(view.metrics), Port(SIDECAR_METRICS), "Who scrapes metrics.")]
        yield "allow-metrics", "Baseline: the metrics of the sidecars.", flows
    if view.cluster.node_cidrs:
        ports = SIDECAR_HEALTH, SIDECAR_PROBES
        flows = [flow for port in ports for flow in _nodes(view, port, "The kubelets.")]
        yield (
            "allow-probes",
            "Baseline: probes of the sidecars, and by them of applications.",
            flows,
        )
