"""What the lab's own users may do in a cluster, as RBAC."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lab.cluster.certificates import BALANCER, KUBELET_CLIENT
from lab.cluster.client import Client
from lab.nodes.files import ENFORCER

_RBAC = "/apis/rbac.authorization.k8s.io/v1"
_GROUP = "rbac.authorization.k8s.io"
_READ = ["get", "list", "watch"]


def grant(api: Client) -> None:
    """Let the API server use kubelets, enforcers read what they enforce, balancers balance.

    Raises:
        LabError: if the API refuses.
    """
    _allow(
        api,
        ENFORCER,
        {"apiGroups": [""], "resources": ["pods", "namespaces", "nodes"], "verbs": _READ},
        {"apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies"], "verbs": _READ},
    )
    _allow(
        api,
        BALANCER,
        {"apiGroups": [""], "resources": ["services", "nodes"], "verbs": _READ},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": _READ},
        {"apiGroups": [""], "resources": ["services/status"], "verbs": ["patch"]},
    )
    bind(api, KUBELET_CLIENT, "system:kubelet-api-admin", [_user(KUBELET_CLIENT)])


def _allow(api: Client, user: str, *rules: dict[str, Any]) -> None:
    """Give a user a role of its own, under its own name."""
    role = {"apiVersion": f"{_GROUP}/v1", "kind": "ClusterRole", "metadata": {"name": user}}
    api.apply(f"{_RBAC}/clusterroles/{user}", {**role, "rules": list(rules)})
    bind(api, user, user, [_user(user)])


def bind(api: Client, name: str, role: str, subjects: Iterable[dict[str, str]]) -> None:
    """Bind a ClusterRole.

    Raises:
        LabError: if the API refuses.
    """
    binding: dict[str, Any] = {
        "apiVersion": f"{_GROUP}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": _GROUP, "kind": "ClusterRole", "name": role},
        "subjects": list(subjects),
    }
    api.apply(f"{_RBAC}/clusterrolebindings/{name}", binding)


def _user(name: str) -> dict[str, str]:
    return {"apiGroup": _GROUP, "kind": "User", "name": name}
