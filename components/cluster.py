"""The cluster: adopted by a kubeconfig, or created on DigitalOcean; and how it is spoken to."""

from __future__ import annotations

import pulumi
import pulumi_digitalocean as digitalocean
import pulumi_kubernetes as kubernetes

from components.settings import Adopted, Created, NodePool, StackSettings
from zt.bundle import Bundle
from zt.facts import Facts

# The size of a cluster's first pool can't be changed without replacing the cluster: that pool is as
# small as may be, and what is needed lies in pools of its own.
_FIRST_POOL = "default"
_FIRST_NODES = 1


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
            network, made = create(self, _facts(bundle), where)
            self.cluster_id, self.network_id = made.id, network.id
            self.provider = provider(self, kubeconfig_of(made), settings.cluster, None)
        self.register_outputs({"clusterId": self.cluster_id, "networkId": self.network_id})


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


def kubeconfig_of(made: digitalocean.KubernetesCluster) -> pulumi.Output[str]:
    """The kubeconfig of a cluster that was made: a secret in the state, and nowhere else."""
    return pulumi.Output.secret(made.kube_configs.apply(lambda all_: all_[0].raw_config or ""))


def create(
    parent: pulumi.Resource, facts: Facts, where: Created
) -> tuple[digitalocean.Vpc, digitalocean.KubernetesCluster]:
    """A network, a cluster in it and its pools; network and cluster are protected."""
    network = digitalocean.Vpc(
        f"{parent._name}-network",  # noqa: SLF001 - as above
        name=facts.cluster,
        region=where.region,
        ip_range=where.network,
        description=f"Nodes of {facts.cluster}",
        opts=pulumi.ResourceOptions(parent=parent, protect=True),
    )
    made = _control_plane(parent, facts, where, network)
    for pool in where.pools:
        _pool(parent, made, pool)
    return network, made


def _control_plane(
    parent: pulumi.Resource, facts: Facts, where: Created, network: digitalocean.Vpc
) -> digitalocean.KubernetesCluster:
    return digitalocean.KubernetesCluster(
        f"{parent._name}-control-plane",  # noqa: SLF001 - as above
        name=facts.cluster,
        region=where.region,
        version=where.version,
        vpc_uuid=network.id,
        # The networks of the policy, which compiled NetworkPolicies and tunnels name.
        cluster_subnet=str(facts.pod_cidr),
        service_subnet=str(facts.service_cidr),
        ha=True,
        surge_upgrade=True,
        auto_upgrade=False,
        node_pool=digitalocean.KubernetesClusterNodePoolArgs(
            name=_FIRST_POOL, size=where.default_size, node_count=_FIRST_NODES
        ),
        opts=pulumi.ResourceOptions(parent=parent, protect=True),
    )


def _pool(parent: pulumi.Resource, made: digitalocean.KubernetesCluster, pool: NodePool) -> None:
    digitalocean.KubernetesNodePool(
        f"{parent._name}-pool-{pool.name}",  # noqa: SLF001 - as above
        cluster_id=made.id,
        name=pool.name,
        size=pool.size,
        auto_scale=True,
        min_nodes=pool.least,
        max_nodes=pool.most,
        opts=pulumi.ResourceOptions(parent=parent),
    )


def _facts(bundle: Bundle) -> Facts:
    if bundle.facts is None:
        raise ValueError(f"{bundle.cluster} is no Kubernetes cluster")
    return bundle.facts
