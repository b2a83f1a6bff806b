"""A container of a pod as a process: its mounts, its user and its rights are the manifest's.

Each has a mount namespace of its own over this machine's files, and is in its pod's network
namespace. There is no image: ``Image`` says which of this machine's programs stand for it.
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.cluster.network import entered

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Image:
    """Programs that stand for an image: folders of this machine, and where they appear."""

    folders: Mapping[str, Path]
    entrypoint: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a container gets from its pod."""

    namespace: str
    volumes: Mapping[str, Path]
    etc: Path
    address: str
    node_address: str
    api: tuple[str, int]


def command(spec: Json, pod: Json, image: Image, around: Surroundings) -> list[str]:
    """The whole command line of a container's process."""
    steps = [
        "set -e",
        "mount --make-rprivate /",
        "mount -t tmpfs -o mode=0755 tmpfs /run",
        *(f"mount --bind {file} /etc/{file.name}" for file in sorted(around.etc.iterdir())),
        *(_bind(source, target) for target, source in image.folders.items()),
        *_mounts(spec, around.volumes),
    ]
    if spec["securityContext"].get("readOnlyRootFilesystem"):
        steps += ["mount -o remount,bind,ro /", "mount -o remount,ro /run"]
    program = [*_as_user(spec, pod), "env", "-i", *_environment(spec, image, around)]
    steps.append(shlex.join(["exec", *program, *_arguments(spec, image)]))
    inside = ["unshare", "--mount", "--", "sh", "-c", "\n".join(steps)]
    return [*entered(around.namespace, inside)]


def _arguments(spec: Json, image: Image) -> list[str]:
    return [*(spec.get("command") or image.entrypoint), *spec.get("args", [])]


def _mounts(spec: Json, volumes: Mapping[str, Path]) -> Iterator[str]:
    for mount in sorted(spec["volumeMounts"], key=lambda item: str(item["mountPath"])):
        yield _bind(volumes[mount["name"]], mount["mountPath"])
        if mount.get("readOnly"):
            yield f"mount -o remount,bind,ro {mount['mountPath']}"


def _bind(source: Path, target: str) -> str:
    return f"mkdir -p {target} && mount --bind {shlex.quote(str(source))} {target}"


def _as_user(spec: Json, pod: Json) -> list[str]:
    security = {**pod.get("securityContext", {}), **spec["securityContext"]}
    user, group = security["runAsUser"], security["runAsGroup"]
    assert not (security.get("runAsNonRoot") and user == 0)
    groups = ",".join(str(item) for item in {group, security.get("fsGroup", group)})
    found = ["setpriv", f"--reuid={user}", f"--regid={group}", f"--groups={groups}"]
    found += ["--pdeathsig=KILL"]
    if security.get("capabilities") == {"drop": ["ALL"]}:
        found += ["--inh-caps=-all", "--bounding-set=-all"]
    if security.get("allowPrivilegeEscalation") is False:
        found += ["--no-new-privs"]
    return [*found, "--"]


def _environment(spec: Json, image: Image, around: Surroundings) -> Iterator[str]:
    yield "PATH=/usr/bin:/bin"
    host, port = around.api
    yield f"KUBERNETES_SERVICE_HOST={host}"
    yield f"KUBERNETES_SERVICE_PORT={port}"
    yield from (f"{name}={value}" for name, value in image.environment.items())
    fields = {"status.hostIP": around.node_address, "status.podIP": around.address}
    for variable in spec.get("env", []):
        reference = variable.get("valueFrom", {}).get("fieldRef")
        value = fields[reference["fieldPath"]] if reference else variable["value"]
        yield f"{variable['name']}={value}"


def run(arguments: Iterable[str], log: Path) -> subprocess.Popen[bytes]:
    """Start a container; what it says goes to a file."""
    with log.open("ab") as out:
        return subprocess.Popen(
            [*arguments], stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, cwd="/"
        )


def within(pid: int, arguments: Iterable[str]) -> subprocess.CompletedProcess[str]:
    """Run a command in a container that runs, as ``kubectl exec`` would."""
    line = ["nsenter", f"--target={pid}", "--mount", "--net", "--", *arguments]
    return subprocess.run(
        line,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
