"""Processes of a local mesh: started in groups of their own, recorded, stopped without mistakes.

A process is known by its ID and its start time, so that a recycled ID is never taken for it
(``proc_pid_stat(5)``, field 22). What runs is recorded in a file before anything else happens, so
that ``down`` finds it even after the supervisor was killed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.mesh.folders import Folders, write_private

GRACE = 5.0
_LAST_LINES = 12
_PAUSE = 0.02
# Fields of /proc/<pid>/stat behind the name in parentheses.
_STATE, _START = 0, 19


class MeshError(Exception):
    """The mesh can't do what was asked; the message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Program:
    """A program to start; ``stop`` is the signal that ends it in good order, ``user`` a UID."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    stop: signal.Signals = signal.SIGTERM
    user: int | None = None


@dataclass(frozen=True, slots=True)
class Identity:
    """A process: its ID, and when it was started in clock ticks since boot ``boot``."""

    pid: int
    started: int
    boot: str


@dataclass(frozen=True, slots=True)
class Recorded:
    """A process that the state file names."""

    name: str
    identity: Identity
    stop: int


def boot_id() -> str:
    """Names this boot of the machine: start times count from it."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def identify(pid: int) -> Identity | None:
    """The process that has an ID now; ``None`` if none has, or it is only waiting to be reaped."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()
    if fields[_STATE] in "ZX":
        return None
    return Identity(pid, int(fields[_START]), boot_id())


def is_alive(identity: Identity) -> bool:
    """Whether the very same process still runs."""
    return identify(identity.pid) == identity


def send(identity: Identity, number: int) -> bool:
    """Signal a process; ``False`` if it is gone."""
    try:
        handle = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return False
    try:
        # The handle holds on to the process, so what is seen now is what gets the signal.
        if not is_alive(identity):
            return False
        signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(handle)
    return True


def stop(processes: Iterable[Recorded], grace: float = GRACE) -> tuple[str, ...]:
    """End processes by their own signals, then by force; returns the names of those it took."""
    running = [process for process in processes if send(process.identity, process.stop)]
    deadline = time.monotonic() + grace
    while time.monotonic() < deadline and any(is_alive(item.identity) for item in running):
        time.sleep(_PAUSE)
    forced = [item for item in running if is_alive(item.identity)]
    for item in forced:
        _kill_group(item.identity)
    while any(is_alive(item.identity) for item in forced):
        time.sleep(_PAUSE)
    return tuple(item.name for item in forced)


def _kill_group(identity: Identity) -> None:
    """Kill a process with whatever it started."""
    with suppress(ProcessLookupError):
        if is_alive(identity) and os.getpgid(identity.pid) == identity.pid:
            os.killpg(identity.pid, signal.SIGKILL)
    send(identity, signal.SIGKILL)


# --- The record of what runs ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class State:
    """What the state file says. ``facts`` is JSON: the policy's path, the page's address, ..."""

    supervisor: Identity | None
    processes: tuple[Recorded, ...]
    facts: Mapping[str, Any]


def read_state(folders: Folders) -> State | None:
    """Read the state file; ``None`` if there is none.

    Raises:
        MeshError: if it is not one of ours.
    """
    try:
        document = json.loads(folders.state.read_text(encoding="utf-8"))
        supervisor = document["supervisor"]
        return State(
            supervisor=Identity(**supervisor) if supervisor else None,
            processes=tuple(
                Recorded(item["name"], Identity(**item["identity"]), item["stop"])
                for item in document["processes"]
            ),
            facts=document["facts"],
        )
    except FileNotFoundError:
        return None
    except (KeyError, TypeError, ValueError) as error:
        raise MeshError(f"{folders.state} is not the record of a mesh ({error!r})") from None


def write_state(folders: Folders, state: State) -> None:
    """Write the state file at once: a reader sees the old one or the new one."""
    document = {
        "supervisor": _plain(state.supervisor) if state.supervisor else None,
        "processes": [
            {"name": item.name, "identity": _plain(item.identity), "stop": int(item.stop)}
            for item in state.processes
        ],
        "facts": dict(state.facts),
    }
    fresh = folders.state.with_suffix(".new")
    write_private(fresh, json.dumps(document, indent=1).encode())
    fresh.rename(folders.state)


def _plain(identity: Identity) -> dict[str, object]:
    return {"pid": identity.pid, "started": identity.started, "boot": identity.boot}


# --- The supervisor's children --------------------------------------------------------------------


@dataclass(slots=True)
class Children:
    """The processes of one supervisor, which is their parent."""

    folders: Folders
    facts: dict[str, Any] = field(default_factory=dict)
    programs: dict[str, Program] = field(default_factory=dict)
    _running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _identities: dict[str, Identity] = field(default_factory=dict)
    _mourned: tuple[str, ...] = ()

    def start(self, program: Program) -> None:
        """Start a program; its output goes to its log.

        Raises:
            MeshError: if it can't be started.
        """
        log = self.folders.log(program.name)
        try:
            with log.open("ab") as output:
                child = subprocess.Popen(  # noqa: S603 - programs of our own
                    program.command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=program.environment,
                    cwd="/",
                    start_new_session=True,
                    **_as_user(program.user),
                )
        except OSError as error:
            raise MeshError(f"{program.name} can't be started: {error.strerror}") from None
        self.programs[program.name] = program
        self._running[program.name] = child
        identity = identify(child.pid)
        if identity is not None:
            self._identities[program.name] = identity
        self.save()

    def pid(self, name: str) -> int:
        """The ID of a child, as it was last started."""
        return self._running[name].pid

    def dead(self) -> tuple[str, ...]:
        """Names of the children that have ended."""
        return tuple(name for name, child in self._running.items() if child.poll() is not None)

    def mourn(self) -> None:
        """Record who has died, if others have than before."""
        dead = tuple(sorted(self.dead()))
        if dead != self._mourned:
            self._mourned = dead
            self.facts["dead"] = {name: self.obituary(name) for name in dead}
            self.save()

    def obituary(self, name: str) -> str:
        """One sentence on how a child ended, and the last lines of its log."""
        code = self._running[name].returncode
        how = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
        return f"{name} died ({how})" + last_lines(self.folders.log(name))

    def save(self) -> None:
        """Record what runs."""
        processes = tuple(
            Recorded(name, identity, self.programs[name].stop)
            for name, identity in self._identities.items()
        )
        write_state(self.folders, State(identify(os.getpid()), processes, self.facts))

    def stop(self) -> None:
        """End all children, and whatever they left behind; the first one last: others need it."""
        names = list(self._running)
        for wave in (names[1:], names[:1]):
            self._stop(wave)
        self._running.clear()
        self._identities.clear()

    def _stop(self, names: list[str]) -> None:
        for name in names:
            if self._running[name].poll() is None:
                self._running[name].send_signal(self.programs[name].stop)
        deadline = time.monotonic() + GRACE
        for child in map(self._running.__getitem__, names):
            while not _has_ended(child) and time.monotonic() < deadline:
                time.sleep(_PAUSE)
            # Until it is reaped, the ID of a child, and so that of its group, is nobody else's.
            if child.returncode is None:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(child.pid, signal.SIGKILL)
                child.wait()


def _has_ended(child: subprocess.Popen[bytes]) -> bool:
    """Whether a child has ended, without reaping it."""
    if child.returncode is not None:
        return True
    return os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _as_user(user: int | None) -> dict[str, Any]:
    return {} if user is None else {"user": user, "group": user, "extra_groups": []}


def last_lines(log: Path) -> str:
    """The end of a log, ready to stand behind a sentence; where the whole of it is."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LAST_LINES:]
    except OSError:
        lines = []
    if not lines:
        return f"; it wrote nothing to {log}"
    return f"; the end of {log}:\n" + "\n".join(f"  {line}" for line in lines)
