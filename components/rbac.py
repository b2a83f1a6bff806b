"""Who a pod is for the API server, and what that one may do."""

from __future__ import annotations

from typing import Any

from components.pods import metadata

GROUP = "rbac.authorization.k8s.io"

Json = dict[str, Any]


def service_account(name: str, namespace: str) -> Json:
    """A service account: its tokens are mounted where a pod asks for them."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(name, namespace),
        "automountServiceAccountToken": False,
    }


def granted(
    name: str, rules: list[Json], account: tuple[str, str], namespace: str | None = None
) -> list[Json]:
    """A role and its binding, both of that name; without a namespace they are the cluster's.

    ``account`` is a service account: its namespace, and its name.
    """
    kind = "Role" if namespace else "ClusterRole"
    whose, account_name = account
    about = {"apiVersion": f"{GROUP}/v1", "metadata": metadata(name, namespace)}
    subject = {"kind": "ServiceAccount", "name": account_name, "namespace": whose}
    reference = {"apiGroup": GROUP, "kind": kind, "name": name}
    return [
        {**about, "kind": kind, "rules": rules},
        {**about, "kind": f"{kind}Binding", "roleRef": reference, "subjects": [subject]},
    ]
