"""What SPIRE's service accounts need of the API server, and what they must not be let to do."""

from __future__ import annotations

from typing import NamedTuple

SERVER, AGENT = "spire-server", "spire-agent"
CRS = "spire.spiffe.io"


class Ask(NamedTuple):
    """One request to the API server; a namespace of "" is the whole cluster."""

    account: str
    verb: str
    resource: str
    group: str = ""
    namespace: str = ""
    name: str = ""


NEEDED = [
    Ask(SERVER, "create", "tokenreviews", "authentication.k8s.io"),
    Ask(SERVER, "get", "nodes", name="node-1"),
    Ask(SERVER, "watch", "nodes"),
    Ask(SERVER, "watch", "namespaces"),
    Ask(SERVER, "get", "pods", namespace="spire-system", name="spire-agent-x"),
    Ask(SERVER, "watch", "pods", namespace="hanzo"),
    Ask(SERVER, "watch", "endpoints", namespace="monitoring"),
    Ask(SERVER, "watch", "clusterspiffeids", CRS),
    Ask(SERVER, "update", "clusterspiffeids/status", CRS, name="hanzo.iam"),
    Ask(SERVER, "update", "clusterstaticentries/status", CRS, name="ci.deploy"),
    Ask(SERVER, "patch", "configmaps", namespace="hanzo", name="spire-bundle"),
    Ask(SERVER, "patch", "configmaps", namespace="spire-system", name="spire-bundle"),
    Ask(SERVER, "create", "leases", "coordination.k8s.io", "spire-system"),
    Ask(
        SERVER,
        "update",
        "leases",
        "coordination.k8s.io",
        "spire-system",
        "spire-controller-manager",
    ),
    Ask(AGENT, "get", "nodes/pods", name="node-1"),
]

FORBIDDEN = [
    Ask(SERVER, "get", "secrets", namespace="hanzo", name="zt-secrets"),
    Ask(SERVER, "get", "secrets", namespace="spire-system", name="spire-datastore"),
    Ask(SERVER, "create", "serviceaccounts/token", namespace="hanzo", name="iam"),
    Ask(SERVER, "create", "pods", namespace="spire-system"),
    Ask(SERVER, "create", "pods/exec", namespace="hanzo", name="iam-1"),
    Ask(SERVER, "list", "pods"),
    Ask(SERVER, "list", "pods", namespace="kube-system"),
    Ask(SERVER, "patch", "configmaps", namespace="hanzo", name="zt-policies"),
    Ask(SERVER, "create", "configmaps", namespace="hanzo"),
    Ask(SERVER, "patch", "configmaps", namespace="kube-system", name="spire-bundle"),
    Ask(SERVER, "create", "clusterspiffeids", CRS, name="hanzo.iam"),
    Ask(SERVER, "update", "clusterspiffeids", CRS, name="hanzo.iam"),
    Ask(SERVER, "get", "nodes/proxy", name="node-1"),
    Ask(SERVER, "update", "leases", "coordination.k8s.io", "kube-system", "kube-scheduler"),
    Ask(SERVER, "create", "subjectaccessreviews", "authorization.k8s.io"),
    Ask(AGENT, "get", "nodes/proxy", name="node-1"),
    Ask(AGENT, "create", "nodes/proxy", name="node-1"),
    Ask(AGENT, "create", "tokenreviews", "authentication.k8s.io"),
    Ask(AGENT, "get", "pods", namespace="hanzo", name="iam-1"),
    Ask(AGENT, "get", "secrets", namespace="spire-system", name="spire-datastore"),
    Ask(AGENT, "patch", "configmaps", namespace="spire-system", name="spire-bundle"),
    Ask(AGENT, "list", "clusterspiffeids", CRS),
]
