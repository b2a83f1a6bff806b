"""A lab with nodes for tests: images in it, pods of its own, and ways to look at them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from websockets.sync.client import connect

from lab.cluster import controlplane
from lab.cluster.client import Client, client
from lab.cluster.model import Layout
from lab.images.build import images
from lab.images.importing import import_all
from lab.mesh.processes import Recorded, read_state
from lab.nodes import dns
from lab.nodes.model import Node, nodes_of
from lab.nodes.pods import Pod, entered, pods, process_of
from zt.model import Cluster

Json = dict[str, Any]

# Python, and nothing of ours.
IMAGE = "zt.lab/service:lab"
_PATIENCE = 90.0
_NEEDED = (IMAGE, "zt.lab/pause:lab", "zt.lab/coredns:lab")
# What is written to a container comes back by channels: output, errors, and how it ended.
_OUTPUT, _ERRORS, _END = 1, 2, 3


@dataclass(frozen=True, slots=True)
class Site:
    """A lab that runs."""

    layout: Layout

    @property
    def nodes(self) -> tuple[Node, ...]:
        return nodes_of(self.layout, controlplane.clusters_in(self.layout))

    def api(self, cluster: str) -> Client:
        return client(self.layout.kubeconfig(cluster))

    def record(self, name: str) -> Recorded:
        state = read_state(self.layout.run)
        assert state is not None
        (found,) = (item for item in state.processes if item.name == name)
        return found


def begin(folder: Path, clusters: Sequence[Cluster]) -> Site:
    """Bring a lab up, with images and DNS."""
    controlplane.up(folder, clusters, quiet, nodes=True)
    site = Site(Layout(folder))
    needed = {name: image for name, image in images(quiet).items() if name in _NEEDED}
    import_all(needed, [node.containerd for node in site.nodes], quiet)
    for cluster in controlplane.clusters_in(site.layout):
        api = site.api(cluster.name)
        dns.install(api, cluster)
        api.wait("/api/v1/namespaces/default/serviceaccounts/default", bool)
    return site


def quiet(_step: str) -> None:
    pass


def serving(name: str, node: str, **more: Any) -> Json:  # noqa: ANN401 - any part of a pod
    """A pod on a node that says its name on port 8000, beside a native sidecar."""
    sidecar = {
        "name": "sidecar",
        "image": IMAGE,
        "restartPolicy": "Always",
        "command": ["python3", "-uc", "import time; print('beside'); time.sleep(1e6)"],
    }
    main = {
        "name": "main",
        "image": IMAGE,
        "workingDir": "/srv",
        "command": ["sh", "-c", 'echo "$HOSTNAME" > name; exec python3 -um http.server 8000'],
        "readinessProbe": {"httpGet": {"path": "/name", "port": 8000}, "periodSeconds": 1},
        "volumeMounts": [{"name": "served", "mountPath": "/srv"}],
    }
    spec = {
        "nodeName": node,
        "terminationGracePeriodSeconds": 0,
        "initContainers": [sidecar],
        "containers": [main],
        "volumes": [{"name": "served", "emptyDir": {}}],
        **more,
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "serving", "name": name}},
        "spec": spec,
    }


def ready(api: Client, name: str, namespace: str = "default") -> Pod:
    """A pod, once it is ready."""
    path = f"/api/v1/namespaces/{namespace}/pods/{name}"
    api.wait(path, _is_ready, _PATIENCE)
    (found,) = (pod for pod in pods(api, namespace) if pod.name == name)
    return found


def _is_ready(pod: Json | None) -> bool:
    conditions = pod["status"].get("conditions", ()) if pod else ()
    return any((item["type"], item["status"]) == ("Ready", "True") for item in conditions)


def run(pod: Pod, *command: str, container: str = "main") -> str:
    """Run a command in a container of a pod, by the machine; returns its output."""
    process = process_of(pod.containers[container])
    done = subprocess.run(entered(process, command), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def fetch(pod: Pod, url: str) -> str:
    """What a pod gets from a URL."""
    program = (
        "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=5).read().decode())"
    )
    return run(pod, "python3", "-c", program, url).strip()


def execute(api: Client, pod: Pod, *command: str) -> tuple[str, Mapping[str, Any]]:
    """Run a command in a pod by the API, as ``kubectl exec`` does; its output, and how it ended."""
    words = [("command", word) for word in command]
    query = urlencode([("container", "main"), ("stdout", "1"), ("stderr", "1"), *words])
    path = f"/api/v1/namespaces/{pod.namespace}/pods/{pod.name}/exec?{query}"
    url = f"wss://{api.host}:{api.port}{path}"
    heard: dict[int, bytes] = {_OUTPUT: b"", _ERRORS: b"", _END: b""}
    with connect(url, ssl=api.context, subprotocols=["v5.channel.k8s.io"], proxy=None) as socket:  # type: ignore[list-item]
        for message in socket:
            assert isinstance(message, bytes)
            heard[message[0]] = heard.get(message[0], b"") + message[1:]
    return heard[_OUTPUT].decode(), json.loads(heard[_END])
