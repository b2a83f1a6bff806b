"""What all pods of ours have in common."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from zt.wellknown import AGENT_SOCKET, MANAGED_BY

# The user of our own images (engine/Dockerfile, gateway/Dockerfile).
USER = 65532
_DIGITS = 10
# The node's SPIRE agent, in pods of ours that ask it for their SVID themselves.
AGENT_VOLUME, AGENT_FOLDER = "spire-agent", str(PurePosixPath(AGENT_SOCKET).parent)


def metadata(
    name: str, namespace: str | None = None, **others: Mapping[str, str]
) -> dict[str, Any]:
    """An object's metadata, by which it is known as ours; ``labels`` come on top."""
    where = {"namespace": namespace} if namespace else {}
    labels = {**MANAGED_BY, **others.pop("labels", {})}
    return {"name": name, **where, "labels": labels, **others}


def pod_security(user: int = USER) -> dict[str, Any]:
    """The security context of a pod that runs as nobody in particular."""
    return {
        "runAsNonRoot": True,
        "runAsUser": user,
        "runAsGroup": user,
        "fsGroup": user,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security() -> dict[str, Any]:
    """The security context of a container that needs nothing of its node."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def resources(cpu: str, memory: str, limit: str) -> dict[str, Any]:
    """Requests of CPU and memory, and the limit of memory alone: CPU that is free may be used."""
    return {"requests": {"cpu": cpu, "memory": memory}, "limits": {"memory": limit}}


def agent_volume() -> dict[str, Any]:
    """The folder with the socket of the node's SPIRE agent."""
    return {"name": AGENT_VOLUME, "hostPath": {"path": AGENT_FOLDER, "type": "Directory"}}


def agent_mount() -> dict[str, Any]:
    """Where a container finds that socket."""
    return {"name": AGENT_VOLUME, "mountPath": AGENT_FOLDER, "readOnly": True}


def spread(labels: Mapping[str, str]) -> list[dict[str, Any]]:
    """Apart on nodes and zones as far as there are any; better on one than not at all."""
    return [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": dict(labels)},
        }
        for key in ("kubernetes.io/hostname", "topology.kubernetes.io/zone")
    ]


def disruption_budget(name: str, namespace: str, labels: Mapping[str, str]) -> dict[str, Any]:
    """At most one pod goes at a time when nodes are drained, also where there is but one."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(name, namespace),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": dict(labels)}},
    }


def with_digest(manifest: Mapping[str, Any], *others: str) -> dict[str, Any]:
    """An object whose name ends in a digest of what it says, and of further texts.

    A Job can't be changed: what would change it makes another one instead.
    """
    text = json.dumps([manifest, *others], sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]
    named = {**manifest["metadata"], "name": f"{manifest['metadata']['name']}-{digest}"}
    return {**manifest, "metadata": named}
