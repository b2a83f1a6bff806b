"""All components of a stack, in the order in which they need each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pulumi

from components.admission import Admission
from components.cluster import Cluster
from components.configuration import ConfigurationError
from components.namespaces import Namespaces
from components.network_policies import NetworkPolicies
from components.settings import StackSettings
from components.sidecars import Sidecars
from components.sidecars import refusals as refused_by_sidecars
from components.spire import Spire
from components.spire import refusals as refused_by_spire
from components.wireguard import Wireguard, findings, is_wanted
from zt.bundle import Bundle
from zt.model import Service
from zt.wellknown import EVALUATOR_API


def install(bundle: Bundle, settings: StackSettings, policies: Mapping[str, str]) -> dict[str, Any]:
    """Register everything that a cluster gets; return the stack's outputs, public facts alone.

    ``policies`` are the texts of the files that the bundle was compiled from, by path.
    """
    del policies
    require(bundle, settings)
    cluster = Cluster("cluster", bundle, settings, pulumi.ResourceOptions())

    def after(*components: pulumi.Resource) -> pulumi.ResourceOptions:
        return pulumi.ResourceOptions(
            providers={"kubernetes": cluster.provider}, depends_on=[*components]
        )

    namespaces = Namespaces("namespaces", bundle, settings, after())
    NetworkPolicies("networkpolicies", bundle, settings, after(namespaces))
    Admission("admission", bundle, settings, after(namespaces))
    spire = Spire("spire", bundle, settings, after(namespaces))
    sidecars = Sidecars("sidecars", bundle, settings, after(namespaces))
    gateway = None
    if is_wanted(bundle, settings):
        gateway = Wireguard("wireguard", bundle, settings, after(namespaces, spire, sidecars))
    return outputs(bundle, settings, gateway)


def require(bundle: Bundle, settings: StackSettings) -> None:
    """Refuse what components can't make of these settings, before any of them is made.

    What they can make, but not as somebody would want it, is a warning.

    Raises:
        ConfigurationError: says what, and what to do.
    """
    for sentence in (*refused_by_spire(bundle, settings), *refused_by_sidecars(bundle)):
        raise ConfigurationError(sentence)
    for sentence in findings(bundle, settings):
        pulumi.log.warn(sentence)


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
