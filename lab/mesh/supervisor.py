"""The process behind a running mesh: parent of all others, and the only one that holds the CA.

Run as ``python -m lab.mesh.supervisor OPTIONS`` by ``zt mesh up``; speaks JSON lines on standard
output until everything is up. SIGTERM ends the mesh, SIGHUP starts again what has died.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from lab.mesh.addresses import claim_block
from lab.mesh.certificates import Certificates
from lab.mesh.cleanup import remove_leftovers
from lab.mesh.folders import Folders
from lab.mesh.launch import launch
from lab.mesh.model import Options
from lab.mesh.processes import Children, MeshError
from lab.mesh.telling import tell, tell_ready

_PAUSE = 0.2

Speak = Callable[[str, object], None]


def main(arguments: list[str]) -> int:
    """Bring a mesh up and keep it; returns the exit code."""
    wanted = json.loads(arguments[0])
    folders = Folders(Path(wanted["state"]))
    options = Options(Path(wanted["policies"]), wanted["phase"], wanted["svid_lifetime"])
    lock = os.open(folders.lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        tell("error", f"a mesh is already running in {folders.root}: stop it with `zt mesh down`")
        return 1
    facts = {"policies": wanted["policies"], "phase": wanted["phase"]}
    children = Children(folders, facts)
    children.save()
    try:
        return asyncio.run(_supervise(children, options))
    finally:
        children.stop()
        remove_leftovers(folders)


async def _supervise(children: Children, options: Options) -> int:
    loop = asyncio.get_running_loop()
    me = asyncio.current_task()
    assert me is not None  # noqa: S101 - asyncio.run made it
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, me.cancel)
    try:
        block, holder = claim_block()
        with holder:
            return await _run(children, options, block)
    except asyncio.CancelledError:
        return 0
    except OSError as error:
        tell("error", str(error))
        return 1


async def _run(children: Children, options: Options, block: int) -> int:
    certificates = await _launched(children, options, block)
    if certificates is None:
        return 1
    tell_ready(children)
    try:
        await _keep(children, certificates)
    finally:
        await certificates.stop()
    return 0


async def _launched(children: Children, options: Options, block: int) -> Certificates | None:
    """Launch the mesh, or say why it can't be."""
    try:
        return await launch(children, options, block, lambda step: tell("step", step))
    except* (MeshError, OSError) as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        with suppress(BrokenPipeError):
            tell("error", str(error))
    return None


async def _keep(children: Children, certificates: Certificates) -> None:
    """Renew certificates, and note who dies; ends by being cancelled."""
    again = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, again.set)
    while True:
        certificates.renew(datetime.now(UTC))
        if again.is_set():
            again.clear()
            for name in sorted(children.dead()):
                children.start(children.programs[name])
        children.mourn()
        await asyncio.sleep(_PAUSE)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
