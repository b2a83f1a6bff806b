"""A cluster that is made on DigitalOcean: its network, its control plane, its pools."""

from __future__ import annotations

import pulumi
import pulumi_digitalocean as digitalocean

from components.settings import Created, NodePool
from zt.facts import Facts

# The size of a cluster's first pool can't be changed without replacing the cluster: that pool is as
# small as may be, and what is needed lies in pools of its own.
_FIRST_POOL = "default"
_FIRST_NODES = 1


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
