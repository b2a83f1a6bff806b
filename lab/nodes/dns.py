"""The DNS of a cluster: CoreDNS as every cluster has it, under the address that kubelets tell."""

from __future__ import annotations

from typing import Any

from lab.cluster.client import Client
from lab.cluster.model import Cluster
from lab.nodes.access import bind

IMAGE = "zt.lab/coredns:lab"
# By this label policies know it (zt.wellknown).
LABELS = {"k8s-app": "kube-dns"}
_NAMESPACE = "kube-system"
_NAME, _SERVICE = "coredns", "kube-dns"
_ROLE = "system:coredns"
_PORT = 53
_HEALTH, _READY = 8080, 8181
# There is nobody to forward to: what is not the cluster's does not exist.
_COREFILE = f"""\
cluster.local:{_PORT} in-addr.arpa:{_PORT} ip6.arpa:{_PORT} {{
    errors
    health
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {{
        pods insecure
        ttl 30
    }}
    prometheus :9153
    cache 30
    loadbalance
}}
.:{_PORT} {{
    errors
    template ANY ANY {{
        rcode NXDOMAIN
    }}
}}
"""


def install(api: Client, cluster: Cluster) -> None:
    """Apply CoreDNS; its image must be there.

    Raises:
        LabError: if the API refuses.
    """
    rules = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
    api.apply(f"{rules}/{_ROLE}", _role())
    account = {"kind": "ServiceAccount", "name": _NAME, "namespace": _NAMESPACE}
    bind(api, _ROLE, _ROLE, [account])
    core, apps = f"/api/v1/namespaces/{_NAMESPACE}", f"/apis/apps/v1/namespaces/{_NAMESPACE}"
    for path, manifest in (
        (f"{core}/serviceaccounts/{_NAME}", _object("v1", "ServiceAccount", _NAME)),
        (f"{core}/configmaps/{_NAME}", _configuration()),
        (f"{core}/services/{_SERVICE}", _service(cluster)),
        (f"{apps}/deployments/{_NAME}", _deployment()),
    ):
        api.apply(path, manifest)


def is_ready(api: Client) -> bool:
    """Whether names are resolved.

    Raises:
        LabError: if the API refuses.
    """
    path = f"/apis/apps/v1/namespaces/{_NAMESPACE}/deployments/{_NAME}"
    found = api.get(path)
    return bool(found and found.get("status", {}).get("availableReplicas"))


def _object(version: str, kind: str, name: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401
    metadata = {"name": name, "namespace": _NAMESPACE, "labels": LABELS}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **more}


def _role() -> dict[str, Any]:
    read = ["list", "watch"]
    core = {"apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": read}
    slices = {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": read}
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": _ROLE},
        "rules": [core, slices],
    }


def _configuration() -> dict[str, Any]:
    return _object("v1", "ConfigMap", _NAME, data={"Corefile": _COREFILE})


def _service(cluster: Cluster) -> dict[str, Any]:
    ports = [
        {"name": "dns", "port": _PORT, "protocol": "UDP"},
        {"name": "dns-tcp", "port": _PORT, "protocol": "TCP"},
        {"name": "metrics", "port": 9153, "protocol": "TCP"},
    ]
    spec = {"clusterIP": str(cluster.dns), "selector": LABELS, "ports": ports}
    return _object("v1", "Service", _SERVICE, spec=spec)


def _deployment() -> dict[str, Any]:
    template = {"metadata": {"labels": LABELS}, "spec": _pod()}
    spec = {"replicas": 1, "selector": {"matchLabels": LABELS}, "template": template}
    return _object("apps/v1", "Deployment", _NAME, spec=spec)


def _pod() -> dict[str, Any]:
    return {
        "serviceAccountName": _NAME,
        "priorityClassName": "system-cluster-critical",
        "dnsPolicy": "Default",
        "tolerations": [{"operator": "Exists"}],
        "terminationGracePeriodSeconds": 1,
        "containers": [_container()],
        "volumes": [{"name": "config", "configMap": {"name": _NAME}}],
    }


def _container() -> dict[str, Any]:
    return {
        "name": _NAME,
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/coredns", "-conf", "/etc/coredns/Corefile"],
        "ports": [
            {"name": "dns", "containerPort": _PORT, "protocol": "UDP"},
            {"name": "dns-tcp", "containerPort": _PORT, "protocol": "TCP"},
        ],
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "170Mi"}},
        "volumeMounts": [{"name": "config", "mountPath": "/etc/coredns", "readOnly": True}],
        "livenessProbe": {"httpGet": {"path": "/health", "port": _HEALTH}},
        "readinessProbe": {"httpGet": {"path": "/ready", "port": _READY}, "periodSeconds": 2},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"add": ["NET_BIND_SERVICE"], "drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
    }
