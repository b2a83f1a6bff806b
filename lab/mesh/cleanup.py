"""Ends what a mesh left running, and removes what it left lying: only what it made itself."""

from __future__ import annotations

import shutil
import signal
import time

from lab.mesh import database
from lab.mesh.folders import Folders
from lab.mesh.processes import MeshError, State, is_alive, read_state, send, stop

# The supervisor ends its children one after the other, and the last by force.
_PATIENCE = 15.0
_PAUSE = 0.05


def stop_mesh(folders: Folders) -> tuple[str, ...] | None:
    """End whatever runs, also after the supervisor was killed; ``None`` if there was no mesh.

    Returns the names of the processes that the supervisor had not ended itself.
    """
    state = read_state(folders)
    if state is None:
        return None
    if state.supervisor and send(state.supervisor, signal.SIGTERM):
        _wait_for(state)
    left = tuple(item for item in state.processes if is_alive(item.identity))
    stop(left)
    if state.supervisor and is_alive(state.supervisor):
        send(state.supervisor, signal.SIGKILL)
    remove_leftovers(folders)
    return tuple(item.name for item in left)


def _wait_for(state: State) -> None:
    deadline = time.monotonic() + _PATIENCE
    while state.supervisor and is_alive(state.supervisor) and time.monotonic() < deadline:
        time.sleep(_PAUSE)


def remove_leftovers(folders: Folders) -> None:
    """Remove keys, data and sockets; logs stay, for whoever asks what happened."""
    for path in (folders.sockets, *folders.made):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    database.remove(folders)


def claim(folders: Folders) -> None:
    """Make the run folder ready for a new mesh.

    Raises:
        MeshError: if a mesh runs there, or the folder is somebody else's.
    """
    state = read_state(folders)
    if state and state.supervisor and is_alive(state.supervisor):
        raise MeshError(f"a mesh is already running in {folders.root}: stop it with `zt mesh down`")
    if state:
        stop_mesh(folders)
    foreign = _foreign(folders)
    if foreign:
        raise MeshError(
            f"{folders.root} holds {foreign}, which is no mesh's: choose another folder"
        )
    shutil.rmtree(folders.logs, ignore_errors=True)
    folders.logs.mkdir(parents=True, mode=0o700)
    folders.root.chmod(0o700)


def _foreign(folders: Folders) -> str | None:
    """The name of something in the folder that no mesh made."""
    if not folders.root.is_dir():
        return None
    ours = {path.name for path in (*folders.made, folders.logs, folders.lock)}
    return next((path.name for path in folders.root.iterdir() if path.name not in ours), None)
