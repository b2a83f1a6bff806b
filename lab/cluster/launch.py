"""Brings control planes up, step by step; each says what it does, and fails in one sentence."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from lab.cluster import network, programs
from lab.cluster.certificates import ADMINISTRATOR, issue, kubeconfig, write_keys
from lab.cluster.client import Client, client
from lab.cluster.forward import forward
from lab.cluster.model import API_PORT, Cluster, LabError, Layout
from lab.mesh.folders import write_private
from lab.mesh.processes import Children

PATIENCE = 90.0
_PAUSE = 0.1
# A server that is only starting may take a connection and say nothing.
_SILENCE = 2.0
_READY = "/readyz"
_ACCOUNT = "/api/v1/namespaces/default/serviceaccounts/default"

# What is said, of which kind: a ``step`` that begins, or what is being ``waiting`` for.
Speak = Callable[[str, object], None]


def launch(children: Children, layout: Layout, clusters: tuple[Cluster, ...], say: Speak) -> None:
    """Start everything. What was started before a failure is left to the caller to stop.

    Raises:
        LabError: with what went wrong.
        BrokenPipeError: by ``say``, if nobody listens any more.
    """
    say("step", "making network namespaces")
    network.create(layout, clusters)
    say("step", "issuing certificates")
    for cluster in clusters:
        _write_keys(layout, cluster)
    say("step", "starting etcd and API servers")
    for cluster in clusters:
        children.start(programs.etcd(layout, cluster))
        children.start(programs.api_server(layout, cluster))
    for cluster in clusters:
        api = client(layout.kubeconfig(cluster.name), _SILENCE)
        _wait(say, children, f"the API server of {cluster.name}", partial(is_ready, api))
        say("step", f"the API server of {cluster.name} is ready")
        children.start(programs.controllers(layout, cluster))
    say("step", "starting controllers")
    for cluster in clusters:
        api = client(layout.kubeconfig(cluster.name), _SILENCE)
        _wait(
            say, children, f"the controllers of {cluster.name}", partial(_is_there, api, _ACCOUNT)
        )


def _write_keys(layout: Layout, cluster: Cluster) -> None:
    """Write keys, and kubeconfigs for the administrator and the controllers."""
    keys = layout.keys(cluster.name)
    root = write_keys(keys, cluster)
    address = str(cluster.address)
    outside = forward(layout.namespace(cluster.name), address, API_PORT)
    there, here = f"https://{address}:{API_PORT}", f"https://127.0.0.1:{outside}"
    administrator = issue(root, ADMINISTRATOR, "system:masters")
    controllers = issue(root, f"system:{programs.CONTROLLERS}")
    for path, user, server in (
        (layout.kubeconfig(cluster.name), administrator, here),
        (layout.inside(cluster.name), administrator, there),
        (keys / f"{programs.CONTROLLERS}.kubeconfig", controllers, there),
    ):
        write_private(path, kubeconfig(root, user, cluster.name, server))


def _wait(say: Speak, children: Children, what: str, is_so: Callable[[], bool]) -> None:
    """Wait for something, as long as nobody dies: none of the children, nor who listens."""
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        for name in children.dead():
            raise LabError(children.obituary(name))
        if time.monotonic() > deadline:
            raise LabError(f"{what} did not answer within {PATIENCE:.0f} s")
        say("waiting", what)
        time.sleep(_PAUSE)


def is_ready(api: Client) -> bool:
    """Whether an API server is ready to serve."""
    try:
        return api.request("GET", _READY).ok
    except OSError:
        return False


def _is_there(api: Client, path: str) -> bool:
    """Whether an object is there: of the controllers' making, so that they must have begun."""
    try:
        return api.request("GET", path).ok
    except OSError:
        return False
