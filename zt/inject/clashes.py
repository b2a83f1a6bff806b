"""What in a pod stands in the sidecar's way; each is a sentence that says what to change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from zt.inject.containers import CONTAINERS, VOLUMES
from zt.inject.needs import Needs
from zt.inject.probes import captured_hooks, captured_probes, complaint
from zt.inject.restore import SYSCTL, is_loopback
from zt.placement import LOOPBACK_NETWORK
from zt.wellknown import SIDECAR_HEALTH, SIDECAR_METRICS, SIDECAR_PROBES

Json = dict[str, Any]


def clash(pod: Json, needs: Needs) -> str | None:
    """The first reason why a pod can't have its sidecar; ``None`` where it can."""
    spec = pod["spec"]
    for look in _LOOKS:
        for reason in look(spec, needs):
            return reason
    return None


def _host(spec: Json, needs: Needs) -> Iterator[str]:
    if spec.get("hostNetwork"):
        ports = ", ".join(map(str, sorted(needs.captured)))
        yield (
            f"the pod is in the host's network, where the mesh can't take what comes to port "
            f"{ports}: remove hostNetwork, or the ports of Service {needs.service}"
        )
    if (spec.get("os") or {}).get("name") == "windows":
        yield "the pod is for Windows, where no sidecar runs: remove its Service from the policy"


def _names(spec: Json, _needs: Needs) -> Iterator[str]:
    for container in _containers(spec):
        if container["name"] in CONTAINERS:
            name = container["name"]
            yield f"container {name} has a name that the mesh keeps for its own: rename it"
    for volume in spec.get("volumes") or ():
        if volume["name"] in VOLUMES:
            yield f"volume {volume['name']} has a name that the mesh keeps for its own: rename it"


def _ports(spec: Json, needs: Needs) -> Iterator[str]:
    own = {SIDECAR_METRICS, SIDECAR_HEALTH, SIDECAR_PROBES, *needs.listens}
    own.update(needs.captured.values())
    for container in _containers(spec):
        for port in container.get("ports") or ():
            number = port["containerPort"]
            if number in own and port.get("protocol", "TCP") == "TCP":
                yield (
                    f"container {container['name']} listens on port {number}, which is the "
                    "sidecar's: let it listen on another"
                )


def _aliases(spec: Json, needs: Needs) -> Iterator[str]:
    ours = {name for alias in needs.aliases for name in alias.names}
    for alias in spec.get("hostAliases") or ():
        for name in alias.get("hostnames") or ():
            if name in ours:
                yield (
                    f"hostAliases lead {name} to {alias['ip']}, but {needs.service} calls it "
                    "through its sidecar: remove that name from hostAliases"
                )
        if is_loopback(alias["ip"]):
            yield (
                f"hostAliases use {alias['ip']}, but {LOOPBACK_NETWORK} is for the sidecar: use "
                "another address"
            )


def _sysctls(spec: Json, needs: Needs) -> Iterator[str]:
    lowest = min((port for alias in needs.aliases for port in alias.ports), default=1 << 16)
    for item in (spec.get("securityContext") or {}).get("sysctls") or ():
        if item["name"] == SYSCTL and int(item["value"]) > lowest:
            yield (
                f"sysctl {SYSCTL} is {item['value']}, but the sidecar listens on port {lowest} "
                "for an upstream: lower it to that"
            )


def _probes(spec: Json, needs: Needs) -> Iterator[str]:
    for probe in captured_probes(_containers(spec), needs.captured):
        reason = complaint(probe)
        if reason:
            yield f"{reason}: remove it"
    for hook in captured_hooks(_containers(spec), needs.captured):
        yield (
            f"{hook} comes from the node as plaintext, which the mesh does not let in: make it an "
            "exec hook"
        )


def _containers(spec: Json) -> list[Json]:
    return [*(spec.get("initContainers") or ()), *spec["containers"]]


_LOOKS: tuple[Callable[[Json, Needs], Iterator[str]], ...] = (
    _host,
    _names,
    _ports,
    _aliases,
    _sysctls,
    _probes,
)
