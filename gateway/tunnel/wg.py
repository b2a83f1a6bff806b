"""Runs ``wg`` and ``ip``, and ``wireguard-go`` where the kernel has no WireGuard.

A private key is handed over by a file in memory, which is there for that moment alone; never as an
argument or in the environment, and what these programs print of it is thrown away here.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.tunnel.book import Key
from gateway.tunnel.errors import TunnelError

_PATIENCE = 20.0
_TUN = Path("/dev/net/tun")
# Of each wireguard-go: it keeps buffers for all packets that were ever on their way at once. Two of
# them, and this program, fit into what the pod may have; with half of it they lose 10 % of speed.
_MEMORY = "224MiB"
# Fields of `wg show <name> dump`.
_PUBLIC, _PORT = 1, 2


@dataclass(frozen=True)
class PeerState:
    """A peer as WireGuard sees it; ``handshake`` in seconds since the epoch, 0 for none."""

    endpoint: str | None
    allowed: frozenset[str]
    handshake: float
    received: int
    sent: int
    keepalive: int


@dataclass(frozen=True)
class State:
    """An interface; peers by public key."""

    public: str
    port: int
    peers: Mapping[str, PeerState]


def run(*command: str, text: str | None = None) -> str:
    """Run a program that ends; returns what it prints.

    Raises:
        TunnelError: if it fails.
    """
    try:
        done = subprocess.run(  # noqa: S603 - ip(8), wg(8)
            command, input=text, capture_output=True, text=True, check=False, timeout=_PATIENCE
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise TunnelError(f"`{command[0]}` can't be run: {type(error).__name__}") from None
    if done.returncode != 0:
        raise TunnelError(f"`{' '.join(command)}` failed: {done.stderr.strip()}")
    return done.stdout


def new_key(now: float) -> Key:
    """Make a key pair.

    Raises:
        TunnelError: if ``wg`` can't.
    """
    private = run("wg", "genkey").strip()
    return Key(private, run("wg", "pubkey", text=private).strip(), now)


def state(name: str) -> State:
    """An interface as it is.

    Raises:
        TunnelError: if there is none of that name.
    """
    first, *others = run("wg", "show", name, "dump").splitlines()
    fields = first.split("\t")
    peers = dict(_peer(line.split("\t")) for line in others)
    return State(fields[_PUBLIC], int(fields[_PORT]), peers)


def _peer(fields: list[str]) -> tuple[str, PeerState]:
    public, _, endpoint, allowed, handshake, received, sent, keepalive = fields
    return public, PeerState(
        endpoint=None if endpoint == "(none)" else endpoint,
        allowed=frozenset(() if allowed == "(none)" else allowed.split(",")),
        handshake=float(handshake),
        received=int(received),
        sent=int(sent),
        keepalive=0 if keepalive == "off" else int(keepalive),
    )


def names() -> tuple[str, ...]:
    """The network interfaces that there are."""
    return tuple(item["ifname"] for item in links())


def links() -> list[dict[str, Any]]:
    """As ``ip -json`` tells of them."""
    return list(json.loads(run("ip", "-json", "link", "show")))


@dataclass
class Maker:
    """Makes and removes interfaces. ``folder`` is in memory: private keys pass through it.

    What ``wireguard-go`` made ends with its process, and that with this one's container.
    """

    folder: Path
    _running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def make(self, name: str, mtu: int) -> None:
        """Make an interface, of the kernel's WireGuard if it has one.

        Raises:
            TunnelError: if there is neither that nor a TUN device.
        """
        try:
            run("ip", "link", "add", name, "type", "wireguard")
        except TunnelError as error:
            if not _TUN.exists():
                raise TunnelError(f"no WireGuard in the kernel, and no {_TUN}: {error}") from None
            self._start(name)
        run("ip", "link", "set", name, "mtu", str(mtu))

    def _start(self, name: str) -> None:
        # Said so it stays in the foreground, and does not praise the kernel's WireGuard.
        said = {"LOG_LEVEL": "error", "WG_PROCESS_FOREGROUND": "1", "GOMEMLIMIT": _MEMORY}
        environment = {**os.environ, **said}
        try:
            process = subprocess.Popen(  # noqa: S603
                ["wireguard-go", name],  # noqa: S607
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        except OSError as error:
            raise TunnelError(f"wireguard-go can't be run: {error.strerror}") from None
        self._running[name] = process
        while True:
            try:
                state(name)
            except TunnelError:
                try:
                    code = process.wait(0.02)
                except subprocess.TimeoutExpired:
                    continue
                raise TunnelError(f"wireguard-go ended with {code}") from None
            return

    def remove(self, name: str) -> None:
        """Remove an interface."""
        process = self._running.pop(name, None)
        if process is None:
            run("ip", "link", "delete", name)
            return
        process.terminate()
        process.wait()

    def dead(self) -> tuple[str, ...]:
        """Interfaces whose program has ended by itself; they are forgotten."""
        ended = tuple(name for name, process in self._running.items() if process.poll() is not None)
        for name in ended:
            del self._running[name]
        return ended

    def set_key(self, name: str, key: Key) -> None:
        """Give an interface its private key, which ends the sessions that it has.

        Raises:
            TunnelError: if ``wg`` refuses.
        """
        path = self.folder / f".{name}"
        path.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with open(os.open(path, flags, 0o400), "w", encoding="ascii") as file:  # noqa: PTH123
            file.write(key.private)
        try:
            run("wg", "set", name, "private-key", str(path))
        finally:
            path.unlink()
