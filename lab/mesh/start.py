"""``up`` as its caller sees it: starts the supervisor, follows its steps, and lets go of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from lab.mesh.cleanup import claim, stop_mesh
from lab.mesh.folders import Folders
from lab.mesh.model import Options
from lab.mesh.processes import MeshError, last_lines

_ROOT = Path(__file__).parents[2]


def up(folders: Folders, options: Options, report: Callable[[str], None]) -> Mapping[str, Any]:
    """Bring a mesh up, and leave it running; returns its facts. Interrupted, it leaves nothing.

    Raises:
        MeshError: with what went wrong; nothing is left running.
    """
    claim(folders)
    supervisor = _spawn(folders, options)
    try:
        assert supervisor.stdout is not None  # noqa: S101 - it is a pipe
        with supervisor.stdout as steps:
            facts = _follow(steps, report)
    except BaseException:
        _end(folders, supervisor)
        raise
    if facts is None:
        supervisor.wait()
        raise MeshError("the supervisor died" + last_lines(folders.log("supervisor")))
    # It is not waited for: it is init's child once we are gone.
    supervisor.returncode = 0
    return facts


def _spawn(folders: Folders, options: Options) -> subprocess.Popen[bytes]:
    wanted = {
        "state": str(folders.root),
        "policies": str(options.policies.absolute()),
        "phase": options.phase,
        "svid_lifetime": options.svid_lifetime,
    }
    with folders.log("supervisor").open("ab") as log:
        return subprocess.Popen(  # noqa: S603 - ourselves
            [sys.executable, "-m", "lab.mesh.supervisor", json.dumps(wanted)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            env={
                "PATH": os.defpath,
                "LANG": "C.UTF-8",
                "PYTHONPATH": str(_ROOT),
                # Its children are other programs at once: gRPC has nothing to put right in them.
                "GRPC_ENABLE_FORK_SUPPORT": "false",
            },
            cwd="/",
            start_new_session=True,
        )


def _follow(steps: IO[bytes], report: Callable[[str], None]) -> Mapping[str, Any] | None:
    """Report steps until the mesh is ready; ``None`` if the supervisor ended without a word."""
    for line in steps:
        message = json.loads(line)
        if "error" in message:
            raise MeshError(message["error"])
        if "ready" in message:
            facts: Mapping[str, Any] = message["ready"]
            return facts
        report(message["step"])
    return None


def _end(folders: Folders, supervisor: subprocess.Popen[bytes]) -> None:
    if supervisor.poll() is None:
        supervisor.send_signal(signal.SIGTERM)
    supervisor.wait()
    stop_mesh(folders)
