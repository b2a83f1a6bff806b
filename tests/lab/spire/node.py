"""One node: binds the pods that the real controllers make, runs them, and reports their status.

What a scheduler and a kubelet do, as far as SPIRE's pods need it.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from lab.cluster.client import MERGE, Client
from lab.cluster.model import API_PORT, ControlPlane
from lab.cluster.network import BRIDGE
from tests.lab.spire import containers
from tests.lab.spire.containers import Image, Surroundings
from tests.lab.spire.volumes import Volumes

Json = dict[str, Any]

_FIRST = 101
_PREFIX_LENGTH = 24
# Of the images: PostgreSQL wants to know who it is.
_USERS = {"root": 0, "postgres": 999}
_PATIENCE = 90.0
# An HTTP GET from inside a network namespace; its status is the exit code's.
_GET = """\
import sys, urllib.request
sys.exit(urllib.request.urlopen(sys.argv[1], timeout=2).status != 200)
"""
_CONNECT = """\
import socket, sys
socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=2).close()
"""


@dataclass(slots=True)
class Running:
    """A pod that runs."""

    manifest: Json
    address: str
    folder: Path
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return str(self.manifest["metadata"]["name"])

    @property
    def uid(self) -> str:
        return str(self.manifest["metadata"]["uid"])

    def log(self, container: str) -> str:
        return (self.folder / f"{container}.log").read_text()

    def execute(self, container: str, *arguments: str) -> str:
        done = containers.within(self.processes[container].pid, arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def kill(self, *, hard: bool = False) -> None:
        for process in self.processes.values():
            process.kill() if hard else process.terminate()
        for process in self.processes.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@dataclass(slots=True)
class Machine:
    """The node, with its pods' network on the bridge of the lab."""

    api: Client
    place: ControlPlane
    folder: Path
    images: Mapping[str, Image]
    name: str = "node-1"
    pods: list[Running] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=lambda: count(_FIRST))
    hosts: dict[str, list[str]] = field(default_factory=dict)

    @property
    def address(self) -> str:
        return f"192.0.2.{_FIRST - 1}"

    def register(self) -> str:
        """Make the Node; returns its UID."""
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": self.name}}
        made = self.api.create("/api/v1/nodes", node)
        (self.folder / "etc").mkdir(parents=True)
        users = (f"{name}:x:{number}:{number}::/:/bin/sh\n" for name, number in _USERS.items())
        (self.folder / "etc/passwd").write_text("".join(users))
        self._write_hosts()
        return str(made.body["metadata"]["uid"])

    def pod_of(self, namespace: str, labels: str, skip: int = 0) -> Json:
        """The pod that a controller made, by labels; ``skip`` others with the same."""
        deadline = time.monotonic() + _PATIENCE
        path = f"/api/v1/namespaces/{namespace}/pods?labelSelector={labels}"
        while True:
            found = sorted(self.api.get(path)["items"], key=lambda pod: pod["metadata"]["name"])
            if len(found) > skip:
                pod: Json = found[skip]
                return pod
            assert time.monotonic() < deadline, f"no pod {labels} in {namespace}"
            time.sleep(0.1)

    def start(self, pod: Json, service: str = "") -> Running:
        """Bind a pod and run it until it is ready; ``service`` is its name in the cluster's DNS."""
        self._bind(pod)
        number = next(self.numbers)
        address = f"192.0.2.{number}"
        running = Running(pod, address, self.folder / f"pod-{number}")
        running.folder.mkdir()
        namespace = self._network(number, address)
        volumes = Volumes(self.api, pod, running.folder / "volumes", self.folder / "node").make()
        around = Surroundings(
            namespace=namespace,
            volumes=volumes,
            etc=self.folder / "etc",
            address=address,
            node_address=self.address,
            api=(self.place.address, API_PORT),
        )
        self.pods.append(running)
        for spec in pod["spec"].get("initContainers", []):
            self._run(running, spec, around)
            code = running.processes.pop(spec["name"]).wait(60)
            assert code == 0, running.log(spec["name"])
        for spec in pod["spec"]["containers"]:
            self._run(running, spec, around)
        if pod["spec"]["restartPolicy"] == "Always":
            self._wait(running, namespace)
        if service:
            self.hosts.setdefault(service, []).append(address)
            self._write_hosts()
        return running

    def _run(self, running: Running, spec: Json, around: Surroundings) -> None:
        image = self.images[spec["image"]]
        line = containers.command(spec, running.manifest["spec"], image, around)
        process = containers.run(line, running.folder / f"{spec['name']}.log")
        running.processes[spec["name"]] = process

    def _wait(self, running: Running, namespace: str) -> None:
        """Until each readiness probe says so, as the manifest has it."""
        deadline = time.monotonic() + _PATIENCE
        for spec in running.manifest["spec"]["containers"]:
            process = running.processes[spec["name"]]
            while not self._ready(running, spec, namespace):
                log = running.log(spec["name"])
                assert process.poll() is None, f"{spec['name']} ended:\n{log}"
                assert time.monotonic() < deadline, f"{spec['name']} is not ready:\n{log}"
                time.sleep(0.2)
        self.report(running, "Running", ready=True)

    def _ready(self, running: Running, spec: Json, namespace: str) -> bool:
        probe = spec["readinessProbe"]
        if "exec" in probe:
            pid = running.processes[spec["name"]].pid
            image = self.images[spec["image"]]
            path = [f"PATH={image.environment['PATH']}"]
            return containers.within(pid, ["env", *path, *probe["exec"]["command"]]).returncode == 0
        if "tcpSocket" in probe:
            asked = [_CONNECT, running.address, str(probe["tcpSocket"]["port"])]
        else:
            get = probe["httpGet"]
            asked = [_GET, f"http://{running.address}:{get['port']}{get['path']}"]
        line = ["ip", "netns", "exec", namespace, "python3", "-c", *asked]
        return subprocess.run(line, capture_output=True, check=False).returncode == 0

    def report(self, running: Running, phase: str, *, ready: bool) -> None:
        """Tell the API how a pod is, so that Services and Jobs know."""
        conditions = [{"type": "Ready", "status": str(ready)}]
        status = {
            "phase": phase,
            "podIP": running.address,
            "podIPs": [{"ip": running.address}],
            "hostIP": self.address,
            "hostIPs": [{"ip": self.address}],
            "conditions": conditions,
        }
        metadata = running.manifest["metadata"]
        path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/status"
        answer = self.api.request("PATCH", path, {"status": status}, content_type=MERGE)
        assert answer.ok, answer.message

    def _bind(self, pod: Json) -> None:
        if pod["spec"].get("nodeName"):
            return
        metadata = pod["metadata"]
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": metadata["name"]},
            "target": {"apiVersion": "v1", "kind": "Node", "name": self.name},
        }
        path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/binding"
        self.api.create(path, binding)

    def _network(self, number: int, address: str) -> str:
        """A namespace with a leg on the lab's bridge; it goes when the lab does."""
        prefix = self.place.namespace.removesuffix(self.place.name)
        namespace, leg = f"{prefix}pod{number}", f"pod{number}"
        bridge = f"{prefix}internet"
        for line in (
            f"ip netns add {namespace}",
            f"ip -n {namespace} link set lo up",
            f"ip -n {bridge} link add {leg} type veth peer name eth0 netns {namespace}",
            f"ip -n {bridge} link set {leg} master {BRIDGE} up",
            f"ip -n {namespace} address add {address}/{_PREFIX_LENGTH} dev eth0",
            f"ip -n {namespace} link set eth0 up",
        ):
            subprocess.run(line.split(), check=True)
        return namespace

    def _write_hosts(self) -> None:
        lines = ["127.0.0.1 localhost"]
        lines += [f"{item} {name}" for name, addresses in self.hosts.items() for item in addresses]
        (self.folder / "etc/hosts").write_text("\n".join([*lines, ""]))

    def forget(self, running: Running, service: str) -> None:
        """A pod that is gone is no longer in the DNS."""
        self.hosts[service].remove(running.address)
        self._write_hosts()

    def close(self) -> None:
        """End every pod, and its network."""
        prefix = self.place.namespace.removesuffix(self.place.name)
        for running in self.pods:
            with suppress(ProcessLookupError):
                running.kill(hard=True)
            number = running.address.rpartition(".")[2]
            line = f"ip netns delete {prefix}pod{number}"
            subprocess.run(line.split(), check=False)
