"""A server under test: started on one core, measured, killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

SERVER_CORE = 0
CLIENT_CORE = 1
_LOOK = 0.01


class ServerError(Exception):
    """A server did not start, or gave up; the message is a sentence."""


@dataclass(frozen=True, slots=True)
class Launch:
    """What starts a server; ``errors`` is the file that its standard error goes to."""

    command: tuple[str, ...]
    errors: Path
    environment: Mapping[str, str]
    directory: Path


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers. ``start_seconds`` is from its start to that."""

    process: subprocess.Popen[bytes]
    port: int
    start_seconds: float

    def memory(self) -> float:
        """Of all its processes together, in MiB: shared pages once (PSS)."""
        return sum(map(_pss, family(self.process.pid))) / 1024

    def processor(self) -> float:
        """Seconds of processor time that all its processes have had."""
        return sum(map(_ticks, family(self.process.pid))) / os.sysconf("SC_CLK_TCK")


@contextmanager
def running(launch: Launch, port: int, probe: bytes, patience: float) -> Iterator[Running]:
    """Start a server on its core; ready once it answers the probe with 200.

    Raises:
        ServerError: if it ends, or is not ready within ``patience`` seconds.
    """
    started = time.perf_counter()
    with launch.errors.open("wb") as errors:
        process = subprocess.Popen(  # noqa: S603 - ours
            (*on_core(SERVER_CORE), *launch.command),
            cwd=launch.directory,
            env={**os.environ, **launch.environment},
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )
    try:
        _wait(process, launch.errors, (port, probe), started + patience)
        yield Running(process, port, time.perf_counter() - started)
    finally:
        _kill(process)


def on_core(core: int) -> tuple[str, ...]:
    """What goes before a command to keep it, and all that it starts, on one core."""
    return "taskset", "--cpu-list", str(core)


def free_port() -> int:
    """A TCP port of the loopback address that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


def family(process: int) -> list[int]:
    """A process and all under it."""
    try:
        listed = Path(f"/proc/{process}/task/{process}/children").read_text()
    except FileNotFoundError:
        return []
    return [process, *(one for child in listed.split() for one in family(int(child)))]


def peak(process: int) -> int:
    """The most memory that a process has had, in KiB; 0 once it has ended."""
    return _kibibytes(Path(f"/proc/{process}/status"), "VmHWM:")


def _pss(process: int) -> int:
    return _kibibytes(Path(f"/proc/{process}/smaps_rollup"), "Pss:")


def _ticks(process: int) -> int:
    try:
        after_name = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(after_name[11]) + int(after_name[12])


def _kibibytes(path: Path, name: str) -> int:
    try:
        lines = path.read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(name)), 0)


def _wait(
    process: subprocess.Popen[bytes], errors: Path, probe: tuple[int, bytes], end: float
) -> None:
    while not _answers(*probe):
        if process.poll() is not None:
            said = errors.read_text().splitlines()[-1:]
            raise ServerError(f"ended with {process.returncode}: {' '.join(said)}")
        if time.perf_counter() > end:
            raise ServerError("was not ready in time")
        time.sleep(_LOOK)


def _answers(port: int, probe: bytes) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(probe)
            return connection.recv(64).split(b" ", 2)[1:2] == [b"200"]
    except OSError:
        return False


def _kill(process: subprocess.Popen[bytes]) -> None:
    """At once, and its children with it: what it has recorded by then is what counts."""
    for one in family(process.pid):
        with suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)
    process.wait()
