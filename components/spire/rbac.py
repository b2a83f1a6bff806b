"""Who SPIRE's pods are for the API server, and the little that they may do there.

The servers read pods in the namespaces of declared services alone, and write one ConfigMap in each.
The agents ask their node's kubelet which pods it runs. That is ``nodes/pods``, which kubelets know
since Kubernetes 1.33; ``nodes/proxy``, which older ones want, would let an agent run commands in
every pod of the cluster.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from components.rbac import granted, service_account
from components.spire.crds import GROUP
from components.spire.names import AGENT, CONTROLLER_MANAGER, SERVER, watched_namespaces
from zt.facts import Facts
from zt.wellknown import BUNDLE_CONFIGMAP, SPIRE_NAMESPACE

Json = dict[str, Any]

_REGISTRATIONS = ("clusterspiffeids", "clusterstaticentries")


def manifests(facts: Facts) -> list[Json]:
    """Service accounts, roles and bindings."""
    return [
        service_account(SERVER, SPIRE_NAMESPACE),
        service_account(AGENT, SPIRE_NAMESPACE),
        *_granted(SERVER, _server_rules()),
        *_granted(AGENT, [_rule("", ["nodes/pods"], ["get"])]),
        *_namespaces(facts),
    ]


def _granted(account: str, rules: list[Json], namespace: str | None = None) -> list[Json]:
    # Roles of the cluster have no namespace to tell them from those of another SPIRE.
    return granted(f"zt-{account}", rules, (SPIRE_NAMESPACE, account), namespace)


def _server_rules() -> list[Json]:
    return [
        # Attests agents.
        _rule("authentication.k8s.io", ["tokenreviews"], ["create"]),
        _rule("", ["nodes"], ["get", "list", "watch"]),
        # Registers pods.
        _rule("", ["namespaces"], ["list", "watch"]),
        _rule(GROUP, _REGISTRATIONS, ["list", "watch"]),
        _rule(GROUP, [f"{kind}/status" for kind in _REGISTRATIONS], ["update"]),
    ]


def _namespaces(facts: Facts) -> list[Json]:
    watched = watched_namespaces(facts)
    found: list[Json] = []
    for namespace in sorted({*watched, SPIRE_NAMESPACE}):
        rules = [_rule("", ["configmaps"], ["get", "patch"], BUNDLE_CONFIGMAP)]
        if namespace in watched:
            rules.append(_rule("", ["pods", "endpoints"], ["list", "watch"]))
        if namespace == SPIRE_NAMESPACE:
            rules += _own_namespace_rules()
        found += _granted(SERVER, rules, namespace)
    return found


def _own_namespace_rules() -> list[Json]:
    """Attests the agents' pods; elects who of the replicas registers."""
    return [
        _rule("", ["pods"], ["get"]),
        # A name is not known yet when an object is created.
        _rule("coordination.k8s.io", ["leases"], ["create"]),
        _rule("coordination.k8s.io", ["leases"], ["get", "update"], CONTROLLER_MANAGER),
        _rule("", ["events"], ["create", "patch"]),
    ]


def _rule(group: str, resources: Sequence[str], verbs: Sequence[str], name: str = "") -> Json:
    named = {"resourceNames": [name]} if name else {}
    return {
        "apiGroups": [group],
        "resources": list(resources),
        **named,
        "verbs": list(verbs),
    }
