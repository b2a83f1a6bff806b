"""Puts something secret where nothing secret may be: a scan that does not find it finds nothing.

Each is there while its block lasts, and is nobody's key.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lab.cluster.client import Client
from lab.cluster.model import Layout
from lab.cluster.network import entered
from lab.mesh.folders import write_private

NAME = "zt-scan-control"
_NAMESPACE = "/api/v1/namespaces/default"
_PROGRAM = "import time; print(flush=True); time.sleep(600)"
# What a container writes is in its log a moment later.
_MOMENT = 1.0


@contextmanager
def in_object(api: Client, kind: str, secret: str) -> Iterator[None]:
    """In an object of a kind that has ``data``: a ConfigMap, or a Secret.

    Raises:
        LabError: if the API refuses.
    """
    field = "stringData" if kind == "Secret" else "data"
    path = f"{_NAMESPACE}/{kind.lower()}s/{NAME}"
    body = {"apiVersion": "v1", "kind": kind, "metadata": {"name": NAME}, field: {NAME: secret}}
    api.apply(path, body)
    try:
        yield
    finally:
        api.delete(path)


@contextmanager
def in_file(folder: Path, secret: str) -> Iterator[None]:
    """In a file of a folder."""
    path = folder / NAME
    write_private(path, secret.encode())
    try:
        yield
    finally:
        path.unlink()


@contextmanager
def in_process(layout: Layout, secret: str) -> Iterator[None]:
    """In environment and arguments of a process of a lab."""
    command = entered(layout.internet, (sys.executable, "-c", _PROGRAM, secret))
    environment = {"PATH": os.environ["PATH"], NAME: secret}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:  # noqa: S603
        try:
            assert process.stdout  # noqa: S101 - it was started so
            process.stdout.readline()
            yield
        finally:
            process.kill()


@contextmanager
def in_logs(folder: Path, processes: Iterable[int], secret: str) -> Iterator[None]:
    """In a log of the lab's programs, and in those of containers, by a process of each.

    What a container has written is there to stay.
    """
    for process in processes:
        with Path(f"/proc/{process}/fd/2").open("w") as stream:
            stream.write(f"{NAME}: {secret}\n")
    time.sleep(_MOMENT)
    with in_file(folder, secret):
        yield
