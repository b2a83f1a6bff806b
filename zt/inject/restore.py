"""Takes out what was put into a pod: so that it can be put in anew, and comes out the same.

A webhook may be called again for a pod that others have changed since, and people copy pods that
have run. What cannot be told from the pod itself is kept in an annotation.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable
from typing import Any

from zt.inject.containers import CONTAINERS, SOCKET_VOLUME, VOLUMES
from zt.inject.probes import KINDS
from zt.placement import LOOPBACK_NETWORK
from zt.wellknown import IDENTITY, INJECTED

Json = dict[str, Any]

SYSCTL = "net.ipv4.ip_unprivileged_port_start"
SAFE_TO_EVICT = "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes"


def memory_of(probes: dict[str, Json], *, sysctl: bool) -> str:
    """What the annotation keeps: the probes as they were, and whether a sysctl was set."""
    return json.dumps({"probes": probes, "sysctl": sysctl}, separators=(",", ":"), sort_keys=True)


def take_out(pod: Json) -> None:
    """Undo an injection, in place; nothing happens to a pod that has none.

    Raises:
        ValueError: if the annotation is not as it was written; the message is a sentence.
    """
    annotations = pod.get("metadata", {}).get("annotations") or {}
    if INJECTED not in annotations:
        return
    probes, sysctl = _memory(annotations[INJECTED])
    spec = pod["spec"]
    _remove(spec, "initContainers", lambda item: item["name"] in CONTAINERS)
    _remove(spec, "volumes", lambda item: item["name"] in VOLUMES)
    _remove(spec, "hostAliases", lambda item: is_loopback(item["ip"]))
    if sysctl:
        context = spec.get("securityContext") or {}
        _remove(context, "sysctls", lambda item: item["name"] == SYSCTL)
    for container in (*spec["containers"], *(spec.get("initContainers") or ())):
        container.update(probes.get(container["name"], {}))
    _forget(annotations)


def _memory(text: str) -> tuple[dict[str, Json], bool]:
    try:
        content = json.loads(text)
        probes = {
            name: {kind: dict(kinds[kind]) for kind in KINDS if kind in kinds}
            for name, kinds in content["probes"].items()
        }
        return probes, content["sysctl"] is True
    except (AttributeError, KeyError, TypeError, ValueError):
        raise ValueError(
            f"annotation {INJECTED} is not as the mesh wrote it: remove the annotation, and "
            "what was injected with it"
        ) from None


def _forget(annotations: Json) -> None:
    for ours in (INJECTED, IDENTITY):
        annotations.pop(ours, None)
    others = [name for name in _listed(annotations) if name != SOCKET_VOLUME]
    if others:
        annotations[SAFE_TO_EVICT] = ",".join(others)
    else:
        annotations.pop(SAFE_TO_EVICT, None)


def safe_volumes(annotations: Json) -> str:
    """The annotation of volumes that are no data, with ours among them."""
    return ",".join([*_listed(annotations), SOCKET_VOLUME])


def _listed(annotations: Json) -> list[str]:
    return [name for name in annotations.get(SAFE_TO_EVICT, "").split(",") if name]


def is_loopback(address: str) -> bool:
    """Whether an address is one of those that sidecars listen on."""
    try:
        return ipaddress.ip_address(address) in LOOPBACK_NETWORK
    except ValueError:
        return False


def _remove(parent: Json, key: str, is_ours: Callable[[Json], bool]) -> None:
    """Remove items of a list, and the list with the last of them."""
    before = parent.get(key) or []
    after = [item for item in before if not is_ours(item)]
    if after:
        parent[key] = after
    elif before:
        del parent[key]
