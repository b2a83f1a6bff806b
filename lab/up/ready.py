"""Waits until everything that was asked for runs, and says meanwhile what it waits for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from lab.cluster.client import Client
from lab.cluster.model import LabError

Json = dict[str, Any]
Report = Callable[[str], None]

# Kinds of workloads, and where each says how many pods it wants and has.
_APPS = "/apis/apps/v1"
_PAUSE = 1.0
# What is still missing is said again after so many seconds.
_AGAIN = 10.0
_SHOWN = 4


@dataclass(frozen=True, slots=True)
class Waiting:
    """A workload that does not run yet; ``ready`` of ``wanted`` pods do."""

    kind: str
    namespace: str
    name: str
    ready: int
    wanted: int

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name} ({self.ready} of {self.wanted})"


def wait_ready(
    api: Client, cluster: str, report: Report, patience: float, namespaces: tuple[str, ...] = ()
) -> None:
    """Wait until every workload has all its pods ready, and every Job has ended well.

    ``namespaces`` are those to look at, all of them without.

    Raises:
        LabError: if that takes longer than ``patience`` seconds; says what is missing, and why.
    """
    deadline, said = time.monotonic() + patience, time.monotonic()
    while missing := tuple(item for item in waiting(api) if _is_of(item, namespaces)):
        if time.monotonic() > deadline:
            raise LabError(_sentence(api, cluster, missing, patience))
        if time.monotonic() - said > _AGAIN:
            said = time.monotonic()
            report(f"{cluster}: waiting for {_listed(missing)}")
        time.sleep(_PAUSE)


def _is_of(item: Waiting, namespaces: tuple[str, ...]) -> bool:
    return not namespaces or item.namespace in namespaces


def waiting(api: Client) -> Iterator[Waiting]:
    """What does not run yet."""
    for item in (*_workloads(api), *_jobs(api)):
        if item.ready < item.wanted:
            yield item


def _workloads(api: Client) -> Iterator[Waiting]:
    for plural in ("deployments", "statefulsets", "daemonsets"):
        for item in api.get(f"{_APPS}/{plural}")["items"]:
            ready, wanted = counted(plural, item)
            yield _of(plural, item, ready, wanted)


def counted(plural: str, item: Json) -> tuple[int, int]:
    """How many pods of a workload are ready in its newest form, and how many it wants."""
    spec, status = item["spec"], item.get("status", {})
    if plural == "daemonsets":
        # Without a word of its controller nobody knows how many nodes it is for.
        wanted = status.get("desiredNumberScheduled") or 1
        updated, ready = status.get("updatedNumberScheduled", 0), status.get("numberReady", 0)
    else:
        wanted = spec.get("replicas", 1)
        updated, ready = status.get("updatedReplicas", 0), status.get("readyReplicas", 0)
    is_seen = status.get("observedGeneration") == item["metadata"]["generation"]
    return (min(updated, ready) if is_seen else 0), wanted


def _jobs(api: Client) -> Iterator[Waiting]:
    for item in api.get("/apis/batch/v1/jobs")["items"]:
        succeeded = item.get("status", {}).get("succeeded", 0)
        yield _of("jobs", item, succeeded, item["spec"].get("completions", 1))


def _of(plural: str, item: Json, ready: int, wanted: int) -> Waiting:
    metadata = item["metadata"]
    return Waiting(plural, metadata["namespace"], metadata["name"], ready, wanted)


def _listed(missing: tuple[Waiting, ...]) -> str:
    shown = ", ".join(map(str, missing[:_SHOWN]))
    more = len(missing) - _SHOWN
    return f"{shown} and {more} more" if more > 0 else shown


# --- Why not --------------------------------------------------------------------------------------


def _sentence(api: Client, cluster: str, missing: tuple[Waiting, ...], patience: float) -> str:
    reasons = "; ".join(f"{name}: {why}" for name, why in unready(api))
    return (
        f"{cluster} is not ready after {patience:.0f} s: {_listed(missing)} do not run"
        f"{f' ({reasons})' if reasons else ''}"
    )


def unready(api: Client) -> Iterator[tuple[str, str]]:
    """Pods that are not ready, and why, as far as their status tells."""
    for pod in api.get("/api/v1/pods")["items"]:
        metadata, status = pod["metadata"], pod.get("status", {})
        if status.get("phase") == "Succeeded" or _condition(status, "Ready") == "True":
            continue
        yield f"{metadata['namespace']}/{metadata['name']}", _why(status)


def _why(status: Json) -> str:
    for container in _containers(status):
        for state in container.get("state", {}), container.get("lastState", {}):
            waiting_for, ended = state.get("waiting"), state.get("terminated")
            if waiting_for:
                text = waiting_for.get("message") or waiting_for.get("reason", "")
                return f"{container['name']}: {text}"
            if ended and ended.get("exitCode"):
                return f"{container['name']} ended with {ended['exitCode']}"
    for condition in status.get("conditions") or ():
        if condition["status"] == "False" and condition.get("message"):
            return str(condition["message"])
    return str(status.get("phase", "it has no status"))


def _containers(status: Json) -> Iterator[Json]:
    for kind in ("initContainerStatuses", "containerStatuses"):
        yield from (item for item in status.get(kind) or () if not item.get("ready"))


def _condition(status: Json, kind: str) -> str | None:
    found = (item["status"] for item in status.get("conditions") or () if item["type"] == kind)
    return next(found, None)
