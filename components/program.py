"""All components of a stack, in the order in which they need each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pulumi

from components.admission import Admission
from components.cluster import Cluster
from components.configuration import ConfigurationError
from components.namespaces import Namespaces
from components.network_policies import NetworkPolicies
from components.settings import StackSettings
from components.spire import Spire
from components.spire import refusals as refused_by_spire
from zt.bundle import Bundle
from zt.facts import Facts
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
    Spire("spire", bundle, settings, after(namespaces))
    return outputs(bundle)


def require(bundle: Bundle, settings: StackSettings) -> None:
    """Refuse what components can't make of these settings, before any of them is made.

    Raises:
        ConfigurationError: says what, and what to do.
    """
    for sentence in refused_by_spire(bundle, settings):
        raise ConfigurationError(sentence)


def outputs(bundle: Bundle) -> dict[str, Any]:
    """What others may know of the cluster."""
    facts = bundle.facts
    known = _known(facts) if facts else {}
    return {"cluster": bundle.cluster, "policyDigest": bundle.digest(), **known}


def _known(facts: Facts) -> dict[str, Any]:
    evaluator, tunnel = facts.evaluator, facts.tunnel
    return {
        "trustDomain": facts.trust_domain,
        "evaluator": f"{evaluator.name}.{evaluator.namespace}.svc.cluster.local:{EVALUATOR_API}"
        if evaluator
        else None,
        "gateway": str(tunnel.endpoint) if tunnel else None,
    }
