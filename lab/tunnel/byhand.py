"""A tunnel between two network namespaces as one sets it up by hand: to compare with."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from gateway.tunnel import wg
from gateway.tunnel.book import Key
from lab.cluster.model import LabError
from lab.cluster.network import entered, run
from lab.tools.build import tool
from lab.tunnel.traffic import End

_MTU = "1420"
_SOCKETS = Path("/var/run/wireguard")
_GROUPS = Path("/sys/fs/cgroup")
_PATIENCE, _PAUSE = 10.0, 0.05


@dataclass(frozen=True, slots=True)
class Side:
    """Where one end is to be.

    Attributes:
        namespace: Its network namespace, as a file.
        host: The address that it has for the other.
        port: Where it listens, and is reached.
        shares: The control groups that it shares CPU in: those of this process, or none.
    """

    namespace: Path
    host: str
    port: int = 51999
    shares: int | None = None


@contextmanager
def by_hand(first: Side, second: Side) -> Iterator[tuple[End, End]]:
    """``wireguard-go`` and ``wg`` on both sides; yields the ends.

    Raises:
        LabError: if they can't be set up.
        ToolError: if there is no wireguard-go, nor can it be built.
    """
    sides, addresses = (first, second), ("10.99.0.1", "10.99.0.2")
    keys = [wg.new_key(time.time()) for _ in sides]
    with ExitStack() as stack:
        for number, side in enumerate(sides):
            other = 1 - number
            name = f"hand{os.getpid() % 10000}-{number}"
            stack.enter_context(_interface(side, name))
            peer = ("peer", keys[other].public, "allowed-ips", f"{addresses[other]}/32")
            endpoint = f"{sides[other].host}:{sides[other].port}"
            where = ("endpoint", endpoint, "persistent-keepalive", "25")
            _set(side, name, keys[number], (*peer, *where))
            _run(side, "ip", "address", "add", f"{addresses[number]}/24", "dev", name)
            _run(side, "ip", "link", "set", name, "mtu", _MTU, "up")
        ends = [
            End(side.namespace, address) for side, address in zip(sides, addresses, strict=True)
        ]
        yield ends[0], ends[1]


@contextmanager
def _interface(side: Side, name: str) -> Iterator[None]:
    environment = {**os.environ, "LOG_LEVEL": "error", "WG_PROCESS_FOREGROUND": "1"}
    command = entered(side.namespace, (str(tool("wireguard-go")), name))
    with subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL) as process:  # noqa: S603
        try:
            if side.shares is not None:
                _group_of(side.shares).joinpath("cgroup.procs").write_text(str(process.pid))
            deadline = time.monotonic() + _PATIENCE
            while not (_SOCKETS / f"{name}.sock").exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise LabError(f"wireguard-go does not start in {side.namespace}")
                time.sleep(_PAUSE)
            yield
        finally:
            process.terminate()


def _group_of(process: int) -> Path:
    """The control group that a process has its share of CPU in (cgroups(7), either version)."""
    lines = Path(f"/proc/{process}/cgroup").read_text(encoding="utf-8").splitlines()
    found = {names: path for _, names, path in (line.split(":", 2) for line in lines)}
    names = next((names for names in found if "cpu" in names.split(",")), "")
    return _GROUPS / names / found[names].lstrip("/")


def _set(side: Side, name: str, key: Key, peer: Sequence[str]) -> None:
    with tempfile.NamedTemporaryFile("w", dir="/dev/shm") as file:
        file.write(key.private)
        file.flush()
        own = ("listen-port", str(side.port), "private-key", file.name)
        _run(side, "wg", "set", name, *own, *peer)


def _run(side: Side, *command: str) -> None:
    run(entered(side.namespace, command))
