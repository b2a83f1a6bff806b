"""All components of a stack, in the order in which they need each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

import pulumi

from components import sdk
from components.admission import Admission
from components.audit import Audit
from components.audit import refusals as refused_by_audit
from components.cluster import Cluster
from components.configuration import ConfigurationError
from components.evaluator import Evaluator, evaluator_of
from components.evaluator.policies import policies_manifest
from components.namespaces import Namespaces
from components.network_policies import NetworkPolicies
from components.settings import ManagedDatabase, StackSettings
from components.sidecars import Sidecars
from components.sidecars import refusals as refused_by_sidecars
from components.spire import Spire
from components.spire import refusals as refused_by_spire
from components.wireguard import Wireguard, findings, is_wanted
from zt.bundle import Bundle
from zt.model import Service
from zt.wellknown import EVALUATOR_API


async def install(
    bundle: Bundle, settings: StackSettings, policies: Mapping[str, str]
) -> dict[str, Any]:
    """Register everything that a cluster gets; return the stack's outputs, public facts alone.

    ``policies`` are the texts of the files that the bundle was compiled from, by path.

    Raises:
        pulumi.RunError: says what can't be made of the settings, before anything is made.
    """
    policies_manifest(evaluator_of(bundle).namespace, policies)
    for sentence in refusals(bundle, settings):
        raise ConfigurationError(sentence)
    for sentence in findings(bundle, settings):
        pulumi.log.warn(sentence)
    sdk.prepare()
    cluster = Cluster("cluster", bundle, settings, pulumi.ResourceOptions())
    gateway = _planes(bundle, located(settings, cluster), policies, cluster)
    await sdk.begin()
    return outputs(bundle, settings, gateway)


def _planes(
    bundle: Bundle, settings: StackSettings, policies: Mapping[str, str], cluster: Cluster
) -> Wireguard | None:
    """What is inside the cluster; only what needs something else waits for it."""

    def after(*components: pulumi.Resource) -> pulumi.ResourceOptions:
        providers: dict[str, pulumi.ProviderResource] = {"kubernetes": cluster.provider}
        return pulumi.ResourceOptions(providers=providers, depends_on=[*components])

    namespaces = Namespaces("namespaces", bundle, settings, after())
    NetworkPolicies("networkpolicies", bundle, settings, after(namespaces))
    Admission("admission", bundle, settings, after(namespaces))
    spire = Spire("spire", bundle, settings, after(namespaces))
    # The audit database is in the mesh: to reach it is to be allowed by the evaluator.
    Audit("audit", bundle, settings, after(namespaces, spire))
    evaluator = Evaluator(
        "evaluator", bundle, settings, after(namespaces, spire), policies=policies
    )
    Sidecars("sidecars", bundle, settings, after(namespaces), after=[evaluator])
    if not is_wanted(bundle, settings):
        return None
    return Wireguard("wireguard", bundle, settings, after(namespaces, spire))


def located(settings: StackSettings, cluster: Cluster) -> StackSettings:
    """The settings, with the place of a managed database that lies beside a created cluster."""
    audit = settings.audit
    if not isinstance(audit, ManagedDatabase) or cluster.cluster_id is None:
        return settings
    audit = replace(audit, cluster_id=cluster.cluster_id, network=cluster.network_id)
    return replace(settings, audit=audit)


def refusals(bundle: Bundle, settings: StackSettings) -> Iterator[str]:
    """What components can't make of these settings: sentences that say what to do."""
    yield from refused_by_spire(bundle, settings)
    yield from refused_by_sidecars(bundle)
    yield from refused_by_audit(bundle, settings)


def outputs(bundle: Bundle, settings: StackSettings, gateway: Wireguard | None) -> dict[str, Any]:
    """What others may know of the cluster: addresses, names, and where keys are, never a key."""
    facts = bundle.facts
    return {
        "cluster": bundle.cluster,
        "policyDigest": bundle.digest(),
        "trustDomain": facts.trust_domain if facts else None,
        "evaluator": _address(facts.evaluator, EVALUATOR_API) if facts else None,
        "wireguardEndpoint": gateway.endpoint if gateway else None,
        "wireguardKey": asdict(settings.gateway.keys) if settings.gateway.keys else None,
    }


def _address(service: Service | None, port: int) -> str | None:
    return f"{service.name}.{service.namespace}.svc.cluster.local:{port}" if service else None
