"""Waits until whoever may call a service reaches it.

When a pod is ready its Service leads to it a moment later, the name of a headless Service leads to
it after that, and a sidecar, which asks for names every five seconds, knows of it last. Gateways
that are ready have yet to find each other.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gateway.tunnel.control import FOLDER, tell
from gateway.tunnel.errors import TunnelError
from lab.check.admin import asked
from lab.cluster.client import Client
from lab.cluster.model import LabError
from lab.nodes.endpoints import left_out
from lab.nodes.pods import pods, process_of
from lab.tunnel.site import CONTAINER
from zt.inject.containers import ENVOY

Json = dict[str, Any]

_PAUSE = 1.0


def wait_known(api: Client, clusters: tuple[str, ...], patience: float) -> None:
    """Wait until every sidecar has an address of each service that it may call, and tunnels are up.

    ``clusters`` are all of the mesh; what is called outside of it may have none in a lab.

    Raises:
        LabError: if that takes longer than ``patience`` seconds; says who does not reach whom.
    """
    deadline = time.monotonic() + patience
    while missing := (*_left_out(api), *_unknown(api, clusters), *_apart(api)):
        if time.monotonic() > deadline:
            raise LabError(f"after {patience:.0f} s {'; '.join(missing)}")
        time.sleep(_PAUSE)


def _left_out(api: Client) -> Iterator[str]:
    return (f"no Service leads to {name}" for name in sorted(left_out(api)))


def _unknown(api: Client, clusters: tuple[str, ...]) -> Iterator[str]:
    for pod in pods(api):
        if ENVOY in pod.containers and pod.ready:
            name = f"{pod.namespace}/{pod.name}"
            said = asked(process_of(pod.containers[ENVOY]), name, "/clusters?format=json")
            for upstream in unresolved(json.loads(said), clusters):
                yield f"the sidecar of {name} has no address for {upstream}"


def unresolved(said: Json, clusters: tuple[str, ...]) -> Iterator[str]:
    """Upstreams in the mesh of which Envoy knows no address, by what ``/clusters`` says."""
    inside = tuple(f"outbound-{cluster}-" for cluster in clusters)
    for item in said.get("cluster_statuses", ()):
        if item["name"].startswith(inside) and not item.get("host_statuses"):
            yield item["name"].removeprefix("outbound-")


def _apart(api: Client) -> Iterator[str]:
    for pod in pods(api):
        if CONTAINER in pod.containers and pod.ready:
            name = f"{pod.namespace}/{pod.name}"
            folder = Path(f"/proc/{process_of(pod.containers[CONTAINER])}/root{FOLDER}")
            try:
                said = tell(folder, "status")
            except TunnelError as error:
                yield f"{name}: {error}"
            else:
                yield from (f"the tunnel of {name} to {cluster} is down" for cluster in down(said))


def down(said: Json) -> Iterator[str]:
    """Clusters to which a tunnel is not up, by its ``status``."""
    return (cluster for cluster, peer in said["peers"].items() if not peer["is_up"])
