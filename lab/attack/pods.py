"""The attacker's pods, and the Services by which they reach others under other names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

from lab.attack.model import Json
from lab.attack.network import ALIAS_PORT
from lab.attack.scene import BARE, BURGLAR, DISGUISED, GUEST, HOST, OUTSIDE, Scene, Target
from zt.wellknown import AGENT_SOCKET

IMAGE = "zt.lab/service:lab"
MARK = {"lab.zt.hanzo.ai/attack": "true"}
_NEVER = "lab.zt.hanzo.ai/never"
# Any but root; the images' own users are others.
_USER = 4242
_SLEEP = ["/usr/bin/python3", "-S", "-c", "import signal; signal.pause()"]
_SOCKETS = str(PurePosixPath(AGENT_SOCKET).parent)


def pod_manifest(
    name: str,
    namespace: str,
    *,
    account: str = "default",
    labels: Mapping[str, str] | None = None,
    spec: Json | None = None,
) -> Json:
    """A pod that waits to be told what to dial."""
    container = {
        "name": "attacker",
        "image": IMAGE,
        "imagePullPolicy": "Never",
        "command": _SLEEP,
        "resources": {"requests": {"cpu": "10m", "memory": "24Mi"}},
        "securityContext": {"runAsUser": _USER, "allowPrivilegeEscalation": False},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {**MARK, **(labels or {})}},
        "spec": {
            "serviceAccountName": account,
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 0,
            "containers": [container],
            **(spec or {}),
        },
    }


def outside_pods(scene: Scene) -> Iterator[Json]:
    """The pods outside the mesh: a plain one, a disguised one, a burglar, one in each node."""
    yield pod_manifest(GUEST, OUTSIDE, labels={"app": GUEST})
    if scene.disguise is not None:
        yield pod_manifest(DISGUISED, OUTSIDE, labels=scene.disguise.labels)
    yield _with_socket(pod_manifest(BURGLAR, OUTSIDE, labels={"app": BURGLAR}))
    for node in scene.nodes:
        spec = {"hostNetwork": True, "nodeName": node}
        yield pod_manifest(f"{HOST}-{node}", OUTSIDE, labels={"app": HOST}, spec=spec)


def bare_pod(scene: Scene) -> Json | None:
    """A pod of a service, to be made while nobody injects; it never is an endpoint of its own."""
    service = scene.bare
    if service is None:
        return None
    return pod_manifest(
        BARE,
        service.namespace,
        account=service.account,
        labels=service.labels,
        spec={"readinessGates": [{"conditionType": _NEVER}]},
    )


def _with_socket(manifest: Json) -> Json:
    """With the agent's socket, as whoever may mount folders of the host has it."""
    manifest["spec"]["volumes"] = [{"name": "spire", "hostPath": {"path": _SOCKETS}}]
    container = manifest["spec"]["containers"][0]
    container["volumeMounts"] = [{"name": "spire", "mountPath": _SOCKETS}]
    return manifest


def inside_alias(target: Target) -> Json:
    """A Service of another name in the target's namespace, which selects its pod."""
    service = target.service
    name = f"zt-attack-{service.name}-{target.port}"
    ports = [{"port": ALIAS_PORT, "targetPort": target.port, "protocol": "TCP"}]
    return _service(name, service.namespace) | {
        "spec": {"selector": service.labels | _replica(target), "ports": ports}
    }


def _replica(target: Target) -> dict[str, str]:
    """By which label a replica of a StatefulSet is told from the others, which nobody watches."""
    name = target.place.pod.rpartition("/")[2]
    is_numbered = name.removeprefix(f"{target.service.name}-").isdecimal()
    return {"statefulset.kubernetes.io/pod-name": name} if is_numbered else {}


def outside_alias(target: Target) -> tuple[Json, Json]:
    """A Service outside that selects nobody, and the address of the target's pod behind it."""
    name = f"{target.service.name}-{target.port}"
    ports = [{"port": ALIAS_PORT, "targetPort": target.port, "protocol": "TCP"}]
    service = _service(name, OUTSIDE) | {"spec": {"ports": ports}}
    slice_ = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name,
            "namespace": OUTSIDE,
            "labels": {**MARK, "kubernetes.io/service-name": name},
        },
        "addressType": "IPv4",
        "ports": [{"name": "", "port": target.port, "protocol": "TCP"}],
        "endpoints": [{"addresses": [target.place.address], "conditions": {"ready": True}}],
    }
    return service, slice_


def _service(name: str, namespace: str) -> Json:
    metadata = {"name": name, "namespace": namespace, "labels": dict(MARK)}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata}
