"""Starts one process of a running mesh again."""

from __future__ import annotations

import signal
import time

from lab.mesh.folders import Folders
from lab.mesh.processes import MeshError, Recorded, is_alive, read_state, send, stop

_PATIENCE = 30.0
_PAUSE = 0.05


def restart(folders: Folders, name: str) -> int:
    """End a process if it runs, have its supervisor start it again; returns the new ID.

    Raises:
        MeshError: if there is no such process, or it does not come back.
    """
    before = _find(folders, name)
    if is_alive(before.identity):
        stop([before])
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        _ask_supervisor(folders)
        time.sleep(_PAUSE)
        now = _find(folders, name)
        if now.identity != before.identity and is_alive(now.identity):
            return now.identity.pid
    raise MeshError(f"{name} did not come back; see {folders.log(name)}")


def _find(folders: Folders, name: str) -> Recorded:
    state = read_state(folders)
    processes = {item.name: item for item in state.processes} if state else {}
    if name not in processes:
        known = ", ".join(sorted(processes)) or "none runs"
        raise MeshError(f"the mesh has no process {name!r}; it has: {known}")
    return processes[name]


def _ask_supervisor(folders: Folders) -> None:
    state = read_state(folders)
    if state is None or state.supervisor is None or not send(state.supervisor, signal.SIGHUP):
        raise MeshError("the mesh's supervisor is gone: clean up with `zt mesh down`")
