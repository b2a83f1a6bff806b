"""Ends what a lab left running, and removes what it left lying: only what it made itself."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress

from lab.cluster import network
from lab.cluster.model import LabError, Layout, clusters_of
from lab.mesh.processes import (
    Identity,
    Recorded,
    State,
    identify,
    is_alive,
    read_state,
    send,
    stop,
)
from lab.nodes import cgroups

_PATIENCE = 30.0
_PAUSE = 0.05


def claim(layout: Layout, clusters: Iterable[str]) -> int:
    """Make the folder ready for a new lab, and remove what is left of one that crashed.

    Returns a descriptor: as long as some process has it, the folder is that lab's.

    Raises:
        LabError: if a lab runs there, or a cluster's folder is somebody else's.
    """
    layout.root.mkdir(parents=True, mode=0o700, exist_ok=True)
    lock = os.open(layout.run.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _clear(layout)
        _refuse_foreign(layout, clusters)
        layout.run.logs.mkdir(mode=0o700)
    except BlockingIOError:
        os.close(lock)
        raise LabError(
            f"a lab is already running in {layout.root}: stop it with `zt lab down`"
        ) from None
    except BaseException:
        os.close(lock)
        raise
    return lock


def down(layout: Layout) -> bool:
    """End a lab, also after its supervisor was killed; ``False`` if there was none.

    Raises:
        LabError: if the kernel doesn't let go of something.
    """
    state = read_state(layout.run)
    if state and state.supervisor:
        _end(state.supervisor)
    found = _clear(layout) or state is not None
    layout.run.lock.unlink(missing_ok=True)
    with suppress(OSError):  # somebody keeps something else in it
        layout.root.rmdir()
    return found


def remove_files(layout: Layout, clusters: Iterable[str]) -> None:
    """Remove keys, data and the record; that last, so that whoever finds it goes on."""
    for name in clusters:
        shutil.rmtree(layout.cluster(name), ignore_errors=True)
    for path in (layout.policies, layout.engine, layout.kms):
        shutil.rmtree(path, ignore_errors=True)
    layout.run.state.with_suffix(".new").unlink(missing_ok=True)
    layout.run.state.unlink(missing_ok=True)


def _refuse_foreign(layout: Layout, clusters: Iterable[str]) -> None:
    for path in map(layout.cluster, clusters):
        if path.exists():
            raise LabError(f"{path} is no lab's: choose another folder")


def _end(supervisor: Identity) -> None:
    send(supervisor, signal.SIGTERM)
    deadline = time.monotonic() + _PATIENCE
    while is_alive(supervisor) and time.monotonic() < deadline:
        time.sleep(_PAUSE)
    send(supervisor, signal.SIGKILL)


def _clear(layout: Layout) -> bool:
    """Remove what a lab without supervisor left; ``False`` if it left nothing but logs."""
    state, namespaces = read_state(layout.run), network.existing(layout)
    stop((*(state.processes if state else ()), *_inhabitants(layout)))
    network.remove(layout)
    cgroups.remove(layout)
    remove_files(layout, _clusters(state))
    shutil.rmtree(layout.run.logs, ignore_errors=True)
    return state is not None or bool(namespaces)


def _inhabitants(layout: Layout) -> Iterator[Recorded]:
    """What runs in the lab's namespaces, even if whoever started it did not live to record it."""
    for pid in (*network.processes(layout), *cgroups.processes(layout)):
        identity = identify(pid)
        if identity is not None:
            yield Recorded(f"process {pid}", identity, signal.SIGKILL)


def _clusters(state: State | None) -> tuple[str, ...]:
    return tuple(item.name for item in clusters_of(state.facts["clusters"])) if state else ()
