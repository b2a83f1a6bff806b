"""NetworkPolicies, as they were compiled."""

from __future__ import annotations

import pulumi

from components.kube import register, stamped
from components.settings import StackSettings
from zt.bundle import Bundle


class NetworkPolicies(pulumi.ComponentResource):
    """One resource for each compiled NetworkPolicy."""

    def __init__(
        self, name: str, bundle: Bundle, settings: StackSettings, opts: pulumi.ResourceOptions
    ) -> None:
        super().__init__("hanzo-zt:components:NetworkPolicies", name, None, opts)
        policies = [
            register(stamped(file.manifest(), settings.reapply), self)
            for file in bundle.under("networkpolicies")
        ]
        self.register_outputs({"count": len(policies)})
