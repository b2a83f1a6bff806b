"""Brings control planes up, step by step; each says what it does, and fails in one sentence."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from lab.cluster import network, programs
from lab.cluster.certificates import ADMINISTRATOR, BALANCER, issue, kubeconfig, write_keys
from lab.cluster.client import Client, client
from lab.cluster.forward import forward
from lab.cluster.model import API_PORT, INTERNET, Cluster, Layout
from lab.cluster.waiting import Speak, wait
from lab.kms.server import kms_of, prepare, program
from lab.mesh.folders import write_private
from lab.mesh.processes import Children
from lab.nodes import launch as nodes_launch
from lab.nodes import network as nodes_network
from lab.nodes.limits import raise_limits
from lab.nodes.model import nodes_of

# A server that is only starting may take a connection and say nothing.
_SILENCE = 2.0
_READY = "/readyz"
_ACCOUNT = "/api/v1/namespaces/default/serviceaccounts/default"


def launch(
    children: Children,
    layout: Layout,
    clusters: tuple[Cluster, ...],
    say: Speak,
    *,
    kms: bool = False,
) -> None:
    """Start everything. What was started before a failure is left to the caller to stop.

    Raises:
        LabError: with what went wrong.
        BrokenPipeError: by ``say``, if nobody listens any more.
    """
    say("step", "making network namespaces")
    network.create(layout, clusters)
    for cluster in clusters:
        if nodes := nodes_of(layout, [cluster]):
            nodes_network.create(layout, cluster, nodes)
    if kms:
        _launch_kms(children, layout, say)
    say("step", "issuing certificates")
    for cluster in clusters:
        _write_keys(layout, cluster)
    say("step", "starting etcd and API servers")
    for cluster in clusters:
        children.start(programs.etcd(layout, cluster))
        children.start(programs.api_server(layout, cluster))
    for cluster in clusters:
        api = client(layout.kubeconfig(cluster.name), _SILENCE)
        wait(say, children, f"the API server of {cluster.name}", partial(is_ready, api))
        say("step", f"the API server of {cluster.name} is ready")
        children.start(programs.controllers(layout, cluster))
    say("step", "starting controllers")
    for cluster in clusters:
        api = client(layout.kubeconfig(cluster.name), _SILENCE)
        wait(say, children, f"the controllers of {cluster.name}", partial(_is_there, api, _ACCOUNT))
    if any(cluster.nodes for cluster in clusters):
        _launch_nodes(children, layout, clusters, say)


def _launch_kms(children: Children, layout: Layout, say: Speak) -> None:
    """A Vault on the Internet side; it is opened by whoever wants something of it."""
    say("step", "starting the KMS")
    kms = kms_of(layout)
    prepare(kms)
    address = f"{kms.address}/{INTERNET.prefixlen}"
    network.ip("-n", layout.internet, "address", "add", address, "dev", network.BRIDGE)
    there = program(kms)
    children.start(replace(there, command=network.entered(layout.internet, there.command)))


def _launch_nodes(
    children: Children, layout: Layout, clusters: tuple[Cluster, ...], say: Speak
) -> None:
    say("step", "starting schedulers, load balancers and nodes")
    raise_limits()
    for cluster in clusters:
        children.start(programs.scheduler(layout, cluster))
        api, nodes = client(layout.kubeconfig(cluster.name)), nodes_of(layout, [cluster])
        nodes_launch.furnish(api, nodes)
        children.start(programs.balancer(layout, cluster))
        for node in nodes:
            nodes_launch.start(children, node, cluster)
    for cluster in clusters:
        api, nodes = client(layout.kubeconfig(cluster.name)), nodes_of(layout, [cluster])
        nodes_launch.await_ready(say, children, api, nodes)


def revive(children: Children, layout: Layout, clusters: tuple[Cluster, ...]) -> None:
    """Start again whatever has died, in the order in which it was started at first.

    Raises:
        MeshError: if something can't be started.
    """
    of_name = {cluster.name: cluster for cluster in clusters}
    for node in nodes_of(layout, clusters):
        nodes_launch.revive(children, node, of_name[node.cluster])
    for name in children.dead():
        children.start(children.programs[name])


def _write_keys(layout: Layout, cluster: Cluster) -> None:
    """Write keys, kubeconfigs for the administrator and programs, and files of nodes."""
    keys = layout.keys(cluster.name)
    root = write_keys(keys, cluster)
    address = str(cluster.address)
    outside = forward(layout.namespace(cluster.name), address, API_PORT)
    there, here = f"https://{address}:{API_PORT}", f"https://127.0.0.1:{outside}"
    own = {name: f"system:{name}" for name in (programs.CONTROLLERS, programs.SCHEDULER)}
    own |= {BALANCER: BALANCER}
    administrator = issue(root, ADMINISTRATOR, "system:masters")
    for path, user, server in (
        (layout.kubeconfig(cluster.name), administrator, here),
        (layout.inside(cluster.name), administrator, there),
        *((keys / f"{name}.kubeconfig", issue(root, user), there) for name, user in own.items()),
    ):
        write_private(path, kubeconfig(root, user, cluster.name, server))
    for node in nodes_of(layout, [cluster]):
        nodes_launch.prepare(node, cluster, root)


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
