"""Admission: ValidatingAdmissionPolicies as they were compiled, and the list that they read."""

from __future__ import annotations

import pulumi

from components.kube import register, stamped
from components.settings import StackSettings
from zt.bundle import Bundle

# Each is there before the next: a binding whose list is missing denies every pod.
_ORDER = ("ConfigMap", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")


class Admission(pulumi.ComponentResource):
    """The list of declared services, then the policies, then what puts them in force."""

    def __init__(
        self, name: str, bundle: Bundle, settings: StackSettings, opts: pulumi.ResourceOptions
    ) -> None:
        super().__init__("hanzo-zt:components:Admission", name, None, opts)
        files = bundle.under("admission")
        manifests = [stamped(file.manifest(), settings.reapply) for file in files]
        before: list[pulumi.Resource] = []
        for kind in _ORDER:
            before = [
                *before,
                *(
                    register(manifest, self, depends_on=before)
                    for manifest in manifests
                    if manifest["kind"] == kind
                ),
            ]
        self.register_outputs({"policies": len(before)})
