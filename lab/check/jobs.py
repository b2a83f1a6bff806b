"""Jobs end although they have a sidecar, which ends after them and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from lab.check.model import BrokenError, Check, Json, Judge, Site, all_of
from lab.cluster.model import LabError
from lab.nodes.pods import process_of
from zt.inject.containers import ENVOY


def jobs(site: Site) -> Iterator[Check]:
    """Each Job of a declared service."""
    yield from all_of("Job", _judges(site))


def _judges(site: Site) -> Iterator[tuple[str, Judge]]:
    services = site.effective.in_cluster(site.cluster)
    accounts = {(item.service.namespace, item.service.account) for item in services}
    pods = site.api.get("/api/v1/pods")["items"]
    for job in site.api.get("/apis/batch/v1/jobs")["items"]:
        namespace, name = job["metadata"]["namespace"], job["metadata"]["name"]
        account = job["spec"]["template"]["spec"].get("serviceAccountName", "default")
        if (namespace, account) in accounts and "deletionTimestamp" not in job["metadata"]:
            uid = job["metadata"]["uid"]
            own = [pod for pod in pods if _is_of(pod, uid)]
            yield f"{namespace}/{name}", partial(_ended, job, own)


def _is_of(pod: Json, uid: str) -> bool:
    return any(owner["uid"] == uid for owner in pod["metadata"].get("ownerReferences") or ())


def _ended(job: Json, pods: list[Json]) -> str:
    """The Job succeeded, and each of its pods that did had a sidecar, which is gone."""
    succeeded = job.get("status", {}).get("succeeded", 0)
    if succeeded < job["spec"].get("completions", 1):
        raise BrokenError(f"it has not ended: {job.get('status')}")
    done = [pod for pod in pods if pod["status"]["phase"] == "Succeeded"]
    if not done:
        raise BrokenError("none of its pods has ended well")
    return "; ".join(map(_pod_ended, done))


def _pod_ended(pod: Json) -> str:
    name, status = pod["metadata"]["name"], pod["status"]
    beside = {item["name"]: item for item in status.get("initContainerStatuses") or ()}
    if ENVOY not in beside:
        raise BrokenError(f"{name} had no sidecar")
    for item in (*beside.values(), *status["containerStatuses"]):
        if "terminated" not in item["state"]:
            raise BrokenError(f"container {item['name']} of {name} has not ended: {item['state']}")
        if _runs(item["containerID"].rpartition("/")[2]):
            raise BrokenError(f"a process of container {item['name']} of {name} still runs")
    code = beside[ENVOY]["state"]["terminated"]["exitCode"]
    return f"{name} ended, its sidecar with {code}"


def _runs(container: str) -> bool:
    try:
        process_of(container)
    except LabError:
        return False
    return True
