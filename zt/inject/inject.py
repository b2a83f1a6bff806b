"""A pod, and the same pod with its sidecar."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from zt.bundle import Bundle
from zt.inject.clashes import clash
from zt.inject.containers import redirect_container, sidecar_container, volumes
from zt.inject.needs import PATH, Alias, Images, Injection, Needs, from_text
from zt.inject.probes import Probe, asked_of_sidecar, captured_probes
from zt.inject.restore import SAFE_TO_EVICT, SYSCTL, memory_of, safe_volumes, take_out
from zt.model import Phase
from zt.wellknown import IDENTITY, INJECT, INJECTED

Json = dict[str, Any]

# Below it a process that is not root listens only where the pod says so.
_PRIVILEGED = 1024
_QUANTITIES = ("cpu", "memory")


@dataclass(frozen=True, slots=True)
class Injected:
    """The pod as it should be, and what its author should know."""

    pod: Json
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Refused:
    """The pod may not start; why, and what would help, in a sentence."""

    reason: str


def inject(pod: Json, namespace: str, injection: Injection, images: Images) -> Injected | Refused:
    """Put into a pod what its service needs. The pod itself stays as it is."""
    changed = copy.deepcopy(pod)
    try:
        take_out(changed)
    except ValueError as error:
        return Refused(str(error))
    account = account_of(changed)
    needs = injection.of(namespace, account)
    if needs is None:
        return _undeclared(changed, namespace, account, injection)
    return _declared(changed, needs, images)


def with_sidecar(bundle: Bundle, service: str, template: Json, images: Images) -> Json:
    """A pod template of one of the mesh's own services, with its sidecar.

    Raises:
        ValueError: if it can't have one; the message is a sentence.
    """
    injection = from_text(bundle.file(PATH).text())
    needs = injection.named(service)
    if needs is None:
        raise ValueError(f"cluster {bundle.cluster} declares no service {service!r}")
    if account_of(template) != needs.account:
        raise ValueError(f"pods of {service} run as service account {needs.account}: say so")
    found = inject(template, needs.namespace, injection, images)
    if isinstance(found, Refused):
        raise ValueError(found.reason)  # noqa: TRY004 - it is what the template says
    return found.pod


def account_of(pod: Json) -> str:
    """The service account that a pod runs as."""
    return str(pod["spec"].get("serviceAccountName") or "default")


# --- Whether --------------------------------------------------------------------------------------


def _undeclared(
    pod: Json, namespace: str, account: str, injection: Injection
) -> Injected | Refused:
    what = f"no Service declares service account {account} in namespace {namespace}"
    if injection.declared_only:
        return Refused(f"{what}: declare it under policies/, or let the pod run as a declared one")
    if _wish(pod) == "false":
        return Injected(pod)
    return Injected(pod, (f"{what}: the pod gets no sidecar and no identity",))


def _declared(pod: Json, needs: Needs, images: Images) -> Injected | Refused:
    wish = _wish(pod)
    if wish not in (None, "true", "false"):
        return Refused(f"annotation {INJECT} is {wish!r}: it should be 'true' or 'false'")
    if wish == "false":
        return _without(pod, needs)
    if not needs.sidecar:
        return Injected(pod)
    if pod["spec"].get("hostNetwork") and not needs.captured:
        why = f"the pod is in the host's network: no sidecar of {needs.service} can be there"
        return Injected(pod, (why,))
    reason = clash(pod, needs)
    if reason:
        return Refused(reason)
    _put_in(pod, needs, images)
    return Injected(pod)


def _wish(pod: Json) -> str | None:
    annotations = pod.get("metadata", {}).get("annotations") or {}
    wish = annotations.get(INJECT)
    return None if wish is None else str(wish)


def _without(pod: Json, needs: Needs) -> Injected | Refused:
    """Only where nothing is enforced: a pod without its sidecar has no identity."""
    if needs.phase is Phase.OBSERVE:
        why = "the pod has no sidecar, and no identity towards others"
        if needs.captured:
            why += f": pods that have one do not reach {needs.service} in it"
        return Injected(pod, (why,))
    return Refused(
        f"{needs.service} is in phase {needs.phase}, so its pods need their sidecar: remove "
        f"annotation {INJECT}"
    )


# --- How ------------------------------------------------------------------------------------------


def _put_in(pod: Json, needs: Needs, images: Images) -> None:
    spec = pod["spec"]
    guaranteed = _is_guaranteed(spec)
    containers = [*(spec.get("initContainers") or ()), *spec["containers"]]
    probes = list(captured_probes(containers, needs.captured))
    before = _rewrite(containers, probes)
    ours = [sidecar_container(probes, images, guaranteed=guaranteed)]
    if needs.captured:
        ours.append(redirect_container(needs, images, guaranteed=guaranteed))
    # Before all others: none of them listens before the redirect is there, and all that dial find
    # the sidecar ready.
    spec["initContainers"] = [*ours, *(spec.get("initContainers") or ())]
    spec["volumes"] = [*(spec.get("volumes") or ()), *volumes(needs)]
    aliases = list(_host_aliases(needs))
    if aliases:
        spec["hostAliases"] = [*(spec.get("hostAliases") or ()), *aliases]
    sysctl = _allow_ports(spec, needs.aliases)
    metadata = pod.setdefault("metadata", {})
    annotations = metadata["annotations"] = metadata.get("annotations") or {}
    annotations[INJECTED] = memory_of(before, sysctl=sysctl)
    annotations[IDENTITY] = needs.spiffe
    annotations[SAFE_TO_EVICT] = safe_volumes(annotations)


def _rewrite(containers: list[Json], probes: list[Probe]) -> dict[str, Json]:
    """Turn probes to the sidecar; returns them as they were."""
    by_name = {container["name"]: container for container in containers}
    before: dict[str, Json] = {}
    for probe in probes:
        before.setdefault(probe.container, {})[probe.kind] = probe.content
        by_name[probe.container][probe.kind] = asked_of_sidecar(probe)
    return before


def _host_aliases(needs: Needs) -> Iterator[Json]:
    for alias in needs.aliases:
        if alias.names:
            yield {"ip": alias.address, "hostnames": list(alias.names)}


def _allow_ports(spec: Json, aliases: tuple[Alias, ...]) -> bool:
    """Let the sidecar, which is not root, listen where upstreams are dialled; whether it was so."""
    lowest = min((port for alias in aliases for port in alias.ports), default=_PRIVILEGED)
    context = spec.get("securityContext") or {}
    sysctls = context.get("sysctls") or []
    if lowest >= _PRIVILEGED or any(item["name"] == SYSCTL for item in sysctls):
        return False
    spec["securityContext"] = context | {
        "sysctls": [*sysctls, {"name": SYSCTL, "value": str(lowest)}]
    }
    return True


def _is_guaranteed(spec: Json) -> bool:
    """Whether the pod's class is Guaranteed, which every container has a part in."""
    containers = [*(spec.get("initContainers") or ()), *spec["containers"]]
    return all(map(_has_what_it_may_take, containers))


def _has_what_it_may_take(container: Json) -> bool:
    resources = container.get("resources") or {}
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    return all(
        name in limits and requests.get(name, limits[name]) == limits[name] for name in _QUANTITIES
    )
