"""The process behind a running lab: parent of all others, and what forwards to the API servers.

Run as ``python -m lab.cluster.supervisor OPTIONS`` by ``zt lab up``; speaks JSON lines on standard
output until everything is up. SIGTERM ends the lab, SIGHUP starts again what has died. It inherits
the folder's lock, and holds it for as long as it lives.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path

from lab.cluster import network
from lab.cluster.cleanup import remove_files
from lab.cluster.launch import launch, revive
from lab.cluster.model import Cluster, Layout, clusters_of, plain
from lab.mesh.processes import Children, Identity, MeshError, is_alive
from lab.mesh.telling import tell, tell_ready
from lab.nodes import cgroups
from lab.nodes.logs import Keeper
from lab.nodes.model import nodes_of

_PAUSE = 0.2
# Logs are looked at every so many pauses.
_LOGS = 10


class _EndedError(Exception):
    """Somebody asked for the end while it began."""


def main(arguments: list[str]) -> int:
    """Bring a lab up and keep it; returns the exit code."""
    wanted = json.loads(arguments[0])
    layout, clusters = Layout(Path(wanted["folder"])), clusters_of(wanted["clusters"])
    owner = Identity(**wanted["owner"]) if wanted["owner"] else None
    children = Children(layout.run, {"clusters": plain(clusters)})
    children.save()
    ended = threading.Event()
    # Looked at between steps: in the midst of one, a child could be started that nobody knows of.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    try:
        return _supervise(children, layout, clusters, owner, ended, kms=wanted["kms"])
    finally:
        children.stop()
        network.remove(layout)
        cgroups.remove(layout)
        remove_files(layout, [item.name for item in clusters])


def _supervise(  # noqa: PLR0913 - what it was told, and by whom it is ended
    children: Children,
    layout: Layout,
    clusters: tuple[Cluster, ...],
    owner: Identity | None,
    ended: threading.Event,
    *,
    kms: bool,
) -> int:
    def say(what: str, value: object) -> None:
        if ended.is_set():
            raise _EndedError
        tell(what, value)

    try:
        launch(children, layout, clusters, say, kms=kms)
        tell_ready(children)
        _keep(children, layout, clusters, owner, ended)
    except (_EndedError, BrokenPipeError):
        return 0
    except (MeshError, OSError) as error:
        tell("error", str(error))
        return 1
    return 0


def _keep(
    children: Children,
    layout: Layout,
    clusters: tuple[Cluster, ...],
    owner: Identity | None,
    ended: threading.Event,
) -> None:
    """Note who dies, keep what pods write, and start again what has died when asked.

    Until the owner dies or the end is wanted.
    """
    again = threading.Event()
    signal.signal(signal.SIGHUP, lambda *_: again.set())
    logs, looks = Keeper(layout.pod_logs, nodes_of(layout, clusters)), 0
    while not ended.wait(_PAUSE) and (owner is None or is_alive(owner)):
        if again.is_set():
            again.clear()
            revive(children, layout, clusters)
        children.mourn()
        looks += 1
        if looks % _LOGS == 0:
            # A disk that is full is no reason to end a lab.
            with suppress(OSError):
                logs.look()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
