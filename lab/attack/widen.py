"""Configuration and policy that let everybody in, made from those in force."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import yaml

from zt.effective import Effective

CLIENTS, RBAC = "clients-", "rbac-"
# The key of the ConfigMap of policies where the one that allows everything is.
ALLOW_ALL = "access.zz-attack-allow-all.yaml"


def lists(data: Mapping[str, str], kinds: Collection[str]) -> dict[str, str]:
    """The files of a sidecar's lists, of the kinds given, by key; each admits everybody.

    The trust in the root stays: it is in no list.
    """
    changed: dict[str, str] = {}
    for key, text in data.items():
        kind = next((kind for kind in kinds if key.startswith(kind)), None)
        if kind is not None:
            document = yaml.safe_load(text)
            for resource in document["resources"]:
                _WIDENERS[kind](resource)
            changed[key] = yaml.safe_dump(document, sort_keys=False)
    return changed


def _widen_clients(resource: dict[str, Any]) -> None:
    # Of another trust domain, too.
    anyone = {"san_type": "URI", "matcher": {"prefix": "spiffe://"}}
    resource["validation_context"]["match_typed_subject_alt_names"] = [anyone]


def _widen_rbac(resource: dict[str, Any]) -> None:
    everything = {"permissions": [{"any": True}], "principals": [{"any": True}]}
    resource["typed_config"]["rules"] = {"action": "ALLOW", "policies": {"all": everything}}


_WIDENERS = {CLIENTS: _widen_clients, RBAC: _widen_rbac}


def policy(effective: Effective) -> str:
    """A policy that lets every declared service call every declared port."""
    mesh = effective.mesh
    everybody = [
        f"spiffe://{mesh.trust_domain}/{place}/*/*"
        for place in sorted({item.service.cluster for item in effective.services})
    ]
    rules = [
        {
            "from": {"spiffe": source},
            "to": [
                {"spiffe": item.spiffe, "ports": [port.port for port in item.service.ports]}
                for item in effective.services
                if item.service.ports
            ],
        }
        for source in everybody
    ]
    document = {
        "apiVersion": "zt.hanzo.ai/v1",
        "kind": "ServiceAccessPolicy",
        "metadata": {"name": "zz-attack-allow-all"},
        "spec": {"rules": rules, "defaultAction": "DENY"},
    }
    return yaml.safe_dump(document, sort_keys=False)
