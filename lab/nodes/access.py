"""What the lab's own users may do in a cluster, as RBAC."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lab.cluster.certificates import KUBELET_CLIENT
from lab.cluster.client import Client
from lab.nodes.files import ENFORCER

_RBAC = "/apis/rbac.authorization.k8s.io/v1"
_GROUP = "rbac.authorization.k8s.io"
_READ = ["get", "list", "watch"]


def grant(api: Client) -> None:
    """Let the API server use kubelets, and enforcers read what they enforce.

    Raises:
        LabError: if the API refuses.
    """
    rules = [
        {"apiGroups": [""], "resources": ["pods", "namespaces", "nodes"], "verbs": _READ},
        {"apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies"], "verbs": _READ},
    ]
    role = {"apiVersion": f"{_GROUP}/v1", "kind": "ClusterRole", "metadata": {"name": ENFORCER}}
    api.apply(f"{_RBAC}/clusterroles/{ENFORCER}", {**role, "rules": rules})
    bind(api, ENFORCER, ENFORCER, [_user(ENFORCER)])
    bind(api, KUBELET_CLIENT, "system:kubelet-api-admin", [_user(KUBELET_CLIENT)])


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
