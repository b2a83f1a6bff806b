"""The evaluator in the cluster (HIP-54, "Policy Engine")."""

from __future__ import annotations

from collections.abc import Mapping

import pulumi

from components.evaluator.objects import (
    account_manifest,
    budget_manifest,
    deployment_manifest,
    rights_manifests,
    service_manifest,
)
from components.evaluator.policies import policies_manifest
from components.kube import register
from components.settings import StackSettings
from zt.bundle import Bundle
from zt.model import Service
from zt.wellknown import EVALUATOR_API


class Evaluator(pulumi.ComponentResource):
    """The evaluator's Deployment, and what it reads and may do.

    Its pods wait by themselves for the Secret with the audit database's DSN, and start without the
    database: what they decide meanwhile is in their spools.
    """

    def __init__(
        self,
        name: str,
        bundle: Bundle,
        settings: StackSettings,
        opts: pulumi.ResourceOptions,
        *,
        policies: Mapping[str, str],
    ) -> None:
        """Register its objects; ``policies`` are the texts of the policy's files by path."""
        super().__init__("hanzo-zt:components:Evaluator", name, None, opts)
        service = evaluator_of(bundle)
        needed = [
            register(manifest, self)
            for manifest in (
                account_manifest(service),
                policies_manifest(service.namespace, policies),
                *rights_manifests(service),
            )
        ]
        register(service_manifest(service), self)
        register(budget_manifest(service), self)
        register(deployment_manifest(bundle, settings, service), self, depends_on=needed)
        self.register_outputs({"api": f"{service.name}.{service.namespace}.svc:{EVALUATOR_API}"})


def evaluator_of(bundle: Bundle) -> Service:
    """The evaluator of the cluster.

    Raises:
        pulumi.RunError: if the policy declares none there.
    """
    facts = bundle.facts
    if facts is None or facts.evaluator is None:
        raise pulumi.RunError(
            f"the policy declares no evaluator in cluster {bundle.cluster}: add a Service of the"
            " name that Mesh says under infrastructure.evaluator"
        )
    return facts.evaluator
