"""Everything of a running lab that could carry a key: objects, state, processes, logs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from lab.cluster.client import Client
from lab.cluster.model import Layout
from lab.cluster.network import processes
from lab.mesh.processes import read_state

Json = dict[str, Any]
Carrier = tuple[str, bytes]

_PROC = Path("/proc")
# What the API answers to a list, but is a form to fill in, or made from other objects.
_NO_OBJECTS = frozenset({"componentstatuses"})
SECRETS = "secrets"
# HIP-54, "Environment Variables".
_AUDIT = b"ZT_AUDIT_DSN="


def objects(api: Client, cluster: str) -> Iterator[Carrier]:
    """Every object of every kind of a cluster but Secrets.

    Raises:
        LabError: if the API refuses.
    """
    for path, kind in _collections(api):
        if kind != SECRETS:
            yield from _listed(api, cluster, path, kind)


def secrets(api: Client, cluster: str) -> Iterator[Carrier]:
    """The Secrets, which may hold what belongs there.

    Raises:
        LabError: if the API refuses.
    """
    yield from _listed(api, cluster, f"/api/v1/{SECRETS}", SECRETS)


def _listed(api: Client, cluster: str, path: str, kind: str) -> Iterator[Carrier]:
    found = api.get(path) or {}
    for item in found.get("items") or ():
        metadata = item["metadata"]
        name = f"{metadata.get('namespace', '')}/{metadata['name']}".lstrip("/")
        yield f"{cluster} {kind} {name}", json.dumps(item).encode()


def _collections(api: Client) -> Iterator[tuple[str, str]]:
    """Path and name of every kind that can be listed."""
    groups = [f"/apis/{group['preferredVersion']['groupVersion']}" for group in _groups(api)]
    for path in ("/api/v1", *groups):
        for kind in (api.get(path) or {}).get("resources", ()):
            name = kind["name"]
            if "list" in kind["verbs"] and "/" not in name and name not in _NO_OBJECTS:
                yield f"{path}/{name}", name


def _groups(api: Client) -> list[Json]:
    return list(api.get("/apis")["groups"])


def state(layout: Layout) -> Iterator[Carrier]:
    """What Pulumi keeps."""
    yield from _files(layout.engine / "state")


def started(layout: Layout) -> Iterator[Carrier]:
    """Environment and arguments of all that runs in the lab: its own programs, and containers."""
    own = {*processes(layout), *_recorded(layout)}
    for folder in _PROC.glob("[0-9]*"):
        # Processes end while one looks.
        with suppress(OSError):
            if int(folder.name) in own or layout.prefix in (folder / "cgroup").read_text():
                name = f"{(folder / 'comm').read_text().strip()} {folder.name}"
                yield f"{name} cmdline", (folder / "cmdline").read_bytes()
                yield f"{name} environ", without_audit((folder / "environ").read_bytes())


def _recorded(layout: Layout) -> Iterator[int]:
    """Who keeps the lab is in none of its namespaces."""
    found = read_state(layout.run)
    if found:
        yield from (item.identity.pid for item in found.processes)
        yield from [found.supervisor.pid] if found.supervisor else []


def without_audit(environment: bytes) -> bytes:
    """An environment without the one secret that the specification puts there."""
    variables = environment.split(b"\0")
    return b"\0".join(item for item in variables if not item.startswith(_AUDIT))


def logs(layout: Layout) -> Iterator[Carrier]:
    """What the lab's programs and its containers wrote, also those that have ended."""
    folders = (layout.run.logs, *sorted(layout.root.glob("*/nodes/*/var/log/pods")))
    seen: set[int] = set()
    for path in (path for folder in folders for path in _paths(folder)):
        with suppress(FileNotFoundError):
            # What is kept (lab.nodes.logs) is the same file.
            if (number := path.stat().st_ino) not in seen:
                seen.add(number)
                yield str(path), path.read_bytes()


def _files(folder: Path) -> Iterator[Carrier]:
    for path in _paths(folder):
        with suppress(FileNotFoundError):
            yield str(path), path.read_bytes()


def _paths(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())
