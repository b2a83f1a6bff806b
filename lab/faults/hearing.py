"""Whether all who follow a cluster's API server hear of a change.

Where it was away for some seconds they ask for news ever more rarely, by themselves: kubelets and
kube-proxies have been seen to be deaf for another 76 s. What changes until then may come late: a
container that starts has no certificate before its kubelet knows of it, nor does a Service lead to
a pod that is ready again. That is not to be taken for what the next fault does.
"""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Callable
from typing import Any

from lab.cluster.client import MERGE
from lab.cluster.model import LabError
from lab.cluster.network import entered, run
from lab.faults.site import Site
from lab.nodes.dns import LABELS
from lab.nodes.model import Node

Json = dict[str, Any]
Report = Callable[[str], None]

# Longer than a kubelet pauses before it starts again what has died often.
PATIENCE = 360.0
_PAUSE = 0.5
# Seconds that a change takes where all is well; what takes longer is reported.
_USUAL = 3.0
_SERVICES = "/api/v1/namespaces/kube-system/services"
_NOTE = "lab.zt.hanzo.ai/heard"
_PORT = 53
# Exits with an error where nobody takes the connection.
_DIAL = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 1)"


def await_hearing(site: Site, report: Report, patience: float = PATIENCE) -> None:
    """Wait until kubelets hear of a change, kube-proxies of a new Service, and all pods are ready.

    What is waited for is reported.

    Raises:
        LabError: if some still do not, or are not, after so many seconds.
        OSError: if the API server does not answer.
    """
    deadline = time.monotonic() + patience
    mark = uuid.uuid4().hex[:12]
    for node in site.nodes:
        _await(_deaf_kubelet(site, node, mark), report, deadline)
    service: Json = {
        "metadata": {"name": f"heard-{mark}"},
        "spec": {"selector": LABELS, "ports": [{"port": _PORT, "protocol": "TCP"}]},
    }
    address = site.api.create(_SERVICES, service).body["spec"]["clusterIP"]
    try:
        for node in site.nodes:
            _await(_deaf_proxy(node, address), report, deadline)
    finally:
        site.api.delete(f"{_SERVICES}/heard-{mark}")
    _await(lambda: _unready(site), report, deadline)


def _await(trouble: Callable[[], str], report: Report, deadline: float) -> None:
    """Wait until there is none."""
    told, begun = "", time.monotonic()
    while found := trouble():
        if found != told and time.monotonic() - begun > _USUAL:
            report(f"waiting: {found}")
            told = found
        if time.monotonic() > deadline:
            raise LabError(f"{found}: see `zt lab status` and the logs of the lab")
        time.sleep(_PAUSE)


def _unready(site: Site) -> str:
    pods = site.pods().items()
    found = ", ".join(name for name, pod in pods if pod.phase == "Running" and not pod.ready)
    return found and f"not ready: {found}"


def _deaf_kubelet(site: Site, node: Node, mark: str) -> Callable[[], str]:
    """It does not know of a note at one of its pods, which is made here."""
    where = (node.name, "Running")
    own = sorted(name for name, pod in site.pods().items() if (pod.node, pod.phase) == where)
    if not own:
        return str  # there is nothing that it could hear of
    namespace, _, pod = own[0].partition("/")
    note = {"metadata": {"annotations": {_NOTE: mark}}}
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}"
    answer = site.api.request("PATCH", path, note, content_type=MERGE)
    if not answer.ok:
        raise LabError(f"PATCH {path}: {answer.message}")

    def trouble() -> str:
        known = site.api.get(f"/api/v1/nodes/{node.name}/proxy/pods")
        notes = (item["metadata"].get("annotations", {}) for item in known["items"])
        heard = any(found.get(_NOTE) == mark for found in notes)
        return "" if heard else f"the kubelet of {node.name} does not hear of changes"

    return trouble


def _deaf_proxy(node: Node, address: str) -> Callable[[], str]:
    """A connection from the node to a new Service does not find a pod."""

    def trouble() -> str:
        try:
            dial = (sys.executable, "-c", _DIAL, address, str(_PORT))
            run(entered(node.namespace, dial))
        except LabError:
            return f"the kube-proxy of {node.name} does not hear of new Services"
        return ""

    return trouble
