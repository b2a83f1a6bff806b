"""SVIDs that live 20 s, under steady traffic: no connection may fail while they rotate.

``python -m benchmarks.rotation [SECONDS]`` brings up a local mesh of the real policy, calls along
every declared edge, each time with a new connection, for two minutes unless told otherwise, and
prints how many were made and which failed.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles

from lab.mesh.cleanup import stop_mesh
from lab.mesh.dial import DialError, ask
from lab.mesh.folders import Folders
from lab.mesh.model import Mesh, Options, running_mesh
from lab.mesh.processes import read_state
from lab.mesh.start import up
from zt.model import Service
from zt.placement import Address

_LIFETIME = 20
_SECONDS = 120.0
_PAUSE = 0.05
_CALLERS = 4


@dataclass(slots=True)
class Tally:
    """What callers count together; lists grow by one at a time, which Python does at once."""

    seconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def main(arguments: list[str]) -> int:
    """Run, and print the figures; 1 if any connection failed."""
    seconds = float(arguments[0]) if arguments else _SECONDS
    with tempfile.TemporaryDirectory() as folder:
        folders = Folders(Path(folder) / "mesh")
        try:
            up(folders, Options(Path("policies"), svid_lifetime=_LIFETIME), print)
            tally = _run(_mesh(folders), seconds)
        finally:
            stop_mesh(folders)
    _print(tally, seconds)
    return 1 if tally.failures else 0


def _mesh(folders: Folders) -> Mesh:
    state = read_state(folders)
    if state is None:
        raise SystemExit("the mesh is gone")
    return running_mesh(folders, state)


def _run(mesh: Mesh, seconds: float) -> Tally:
    """Call along all edges, over and over, from a few threads."""
    tally, edges, end = Tally(), tuple(_edges(mesh)), time.monotonic() + seconds
    callers = [
        threading.Thread(target=_call, args=(edges[start::_CALLERS], end, tally))
        for start in range(_CALLERS)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    return tally


def _edges(mesh: Mesh) -> Iterator[tuple[Address, str]]:
    """Where each declared edge is dialled, and the ID that must answer."""
    for item in mesh.effective.services:
        for grant in item.upstreams:
            if isinstance(grant.destination, Service):
                address = mesh.placement.outbound(item.service, grant.destination, grant.port)
                yield address, grant.destination.spiffe(mesh.effective.mesh)


def _call(edges: tuple[tuple[Address, str], ...], end: float, tally: Tally) -> None:
    while time.monotonic() < end:
        for address, wanted in edges:
            started = time.monotonic()
            try:
                answer = ask(address, None) or "refused"
            except DialError as error:
                answer = str(error)
            tally.seconds.append(time.monotonic() - started)
            if answer != wanted:
                tally.failures.append(f"{time.strftime('%T')} {wanted}: {answer}")
            time.sleep(_PAUSE)


def _print(tally: Tally, seconds: float) -> None:
    cuts = quantiles(tally.seconds, n=100)
    print(f"{seconds:.0f} s, SVIDs of {_LIFETIME} s renewed every {_LIFETIME / 2:.0f} s")
    print(f"{len(tally.seconds)} connections, {len(tally.failures)} failed")
    print(f"connect and one answer: p50 {cuts[49] * 1e3:.1f} ms, p99 {cuts[98] * 1e3:.1f} ms")
    for failure in tally.failures:
        print(failure)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
