"""Namespaces: the teams' are there before and only get labels; SPIRE's is the stack's own."""

from __future__ import annotations

from typing import Any

import pulumi

from components.kube import register
from components.settings import StackSettings
from zt.bundle import Bundle
from zt.wellknown import INJECTION_NAMESPACE, MANAGED_BY, MESH_NAMESPACE, SPIRE_NAMESPACE

# The SPIRE agents look into other pods' processes: that is what attests a workload.
_SECURITY = {"pod-security.kubernetes.io/enforce": "privileged"}


class Namespaces(pulumi.ComponentResource):
    """Labels that switch on admission and injection, and the namespace of SPIRE.

    ``destroy`` takes the labels off again. What runs in the teams' namespaces is not touched.
    """

    def __init__(
        self, name: str, bundle: Bundle, settings: StackSettings, opts: pulumi.ResourceOptions
    ) -> None:
        super().__init__("hanzo-zt:components:Namespaces", name, None, opts)
        del settings
        register(spire_manifest(), self)
        names = bundle.facts.namespaces if bundle.facts else ()
        for namespace in names:
            register(team_manifest(namespace), self, patch=True)
        self.register_outputs({"mesh": list(names)})


def spire_manifest() -> dict[str, Any]:
    """The namespace of SPIRE."""
    return _namespace(SPIRE_NAMESPACE, {**MANAGED_BY, **_SECURITY})


def team_manifest(namespace: str) -> dict[str, Any]:
    """What is set on a team's namespace; it doesn't say that we manage it, because we don't."""
    return _namespace(namespace, {**MESH_NAMESPACE, **INJECTION_NAMESPACE})


def _namespace(name: str, labels: dict[str, str]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
