"""The cluster: adopted by a kubeconfig, or created on DigitalOcean; and how it is spoken to."""

from __future__ import annotations

import pulumi
import pulumi_kubernetes as kubernetes

from components.settings import Adopted, Created, StackSettings
from zt.bundle import Bundle
from zt.facts import Facts


class Cluster(pulumi.ComponentResource):
    """A cluster and its Kubernetes provider.

    Attributes:
        provider: speaks to it, by server-side apply.
        cluster_id: its ID on DigitalOcean, where the stack makes it.
        network_id: the ID of its VPC, where the stack makes it.
    """

    provider: kubernetes.Provider
    cluster_id: pulumi.Output[str] | None = None
    network_id: pulumi.Output[str] | None = None

    def __init__(
        self, name: str, bundle: Bundle, settings: StackSettings, opts: pulumi.ResourceOptions
    ) -> None:
        super().__init__("hanzo-zt:components:Cluster", name, None, opts)
        where = settings.kubernetes
        if isinstance(where, Adopted):
            self.provider = provider(self, where.kubeconfig, settings.cluster, where.context)
        else:
            self.provider = self._create(_facts(bundle), where)
        self.register_outputs({"clusterId": self.cluster_id, "networkId": self.network_id})

    def _create(self, facts: Facts, where: Created) -> kubernetes.Provider:
        # Half of the program's imports are DigitalOcean's, which an adopted cluster has no use for.
        from components.digitalocean import create, kubeconfig_of  # noqa: PLC0415

        network, made = create(self, facts, where)
        self.cluster_id, self.network_id = made.id, network.id
        return provider(self, kubeconfig_of(made), facts.cluster, None)


def provider(
    parent: pulumi.Resource, kubeconfig: pulumi.Input[str], cluster: str, context: str | None
) -> kubernetes.Provider:
    """What speaks to a cluster; ``kubeconfig`` is a path, or its contents as a secret."""
    return kubernetes.Provider(
        f"{parent._name}-kubernetes",  # noqa: SLF001 - has no public name
        kubeconfig=kubeconfig,
        context=context,
        # Credentials are renewed and files are moved; the cluster stays the same one.
        cluster_identifier=cluster,
        enable_server_side_apply=True,
        # Whoever edits an object of the stack takes its fields over: `up` takes them back.
        enable_patch_force=True,
        # A policy change is an update in place: pods that mount it are not touched.
        enable_config_map_mutable=True,
        enable_secret_mutable=True,
        opts=pulumi.ResourceOptions(parent=parent),
    )


def _facts(bundle: Bundle) -> Facts:
    if bundle.facts is None:
        raise ValueError(f"{bundle.cluster} is no Kubernetes cluster")
    return bundle.facts
