"""The WireGuard gateway of a cluster, with its Envoy beside it.

Its private key is in no object: the pod reads it from KMS into memory. What the stack knows are
public keys, and where the private one is.
"""

from __future__ import annotations

import pulumi
import pulumi_kubernetes as kubernetes

from components.kube import Manifest, register, resource_name
from components.settings import StackSettings
from components.wireguard.objects import (
    account_manifest,
    deployment_manifest,
    mesh_manifest,
    peers_manifest,
    tunnel_manifest,
)
from components.wireguard.peers import findings, is_wanted
from components.wireguard.pod import pod_template
from zt.bundle import Bundle
from zt.inject import Images, with_sidecar

__all__ = ["Wireguard", "findings", "is_wanted"]


class Wireguard(pulumi.ComponentResource):
    """Gateway, Services and peers of one cluster.

    Attributes:
        endpoint: Address of the load balancer, for people to compare with the policy's; empty
            where there is none.
    """

    endpoint: pulumi.Output[str]

    def __init__(
        self, name: str, bundle: Bundle, settings: StackSettings, opts: pulumi.ResourceOptions
    ) -> None:
        super().__init__("hanzo-zt:components:Wireguard", name, None, opts)
        facts, keys = bundle.facts, settings.gateway.keys
        if facts is None or facts.gateway is None or facts.tunnel is None or keys is None:
            raise pulumi.RunError("; ".join(findings(bundle, settings)))
        gateway, tunnel = facts.gateway, facts.tunnel
        bare = pod_template(gateway, settings, keys, tunnel.endpoint.port)
        template = with_sidecar(bundle, gateway.name, bare, _injected(settings))
        needed = (account_manifest(gateway), peers_manifest(gateway, bundle, settings))
        made = [register(manifest, self) for manifest in needed]
        register(deployment_manifest(gateway, template), self, depends_on=made)
        register(mesh_manifest(gateway), self)
        outside = tunnel_manifest(gateway, tunnel, production=settings.production)
        self.endpoint = _address(_service(outside, self))
        self.register_outputs({"endpoint": self.endpoint})


def _injected(settings: StackSettings) -> Images:
    return Images(envoy=settings.images.envoy, redirect=settings.images.gateway)


def _service(manifest: Manifest, parent: pulumi.ComponentResource) -> kubernetes.core.v1.Service:
    """A typed Service, because its status is wanted."""
    return kubernetes.core.v1.Service(
        resource_name(parent, manifest),
        metadata=manifest["metadata"],
        spec=manifest["spec"],
        opts=pulumi.ResourceOptions(parent=parent),
    )


def _address(service: kubernetes.core.v1.Service) -> pulumi.Output[str]:
    """The first address of a Service's load balancer, or its host name."""

    def first(status: kubernetes.core.v1.outputs.ServiceStatus | None) -> str:
        balancer = status.load_balancer if status else None
        found = (balancer.ingress or []) if balancer else []
        return (found[0].ip or found[0].hostname or "") if found else ""

    return service.status.apply(first)
