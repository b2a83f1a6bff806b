"""Tells a tunnel that runs what to do: ``python3 -m gateway.tunnel.control rotate``.

It listens on a socket in the pod's memory, for root alone; whoever may run a program in the pod may
do this.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gateway.keys import KeyStoreError
from gateway.tunnel.errors import TunnelError

SOCKET = "control.sock"
FOLDER = Path("/run/zt/wireguard")
_PATIENCE = 30.0
_PAUSE = 0.5
_MOST_BYTES = 1 << 16

Command = Callable[[], Mapping[str, object]]


def listen(folder: Path, commands: Mapping[str, Command]) -> None:
    """Answer commands, each a line, for ever; in a thread of its own.

    Raises:
        OSError: if the socket can't be made.
    """
    path = folder / SOCKET
    path.unlink(missing_ok=True)
    before = os.umask(0o177)
    try:
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(path))
    finally:
        os.umask(before)
    listening.listen()
    threading.Thread(target=_serve, args=(listening, commands), name="control", daemon=True).start()


def _serve(listening: socket.socket, commands: Mapping[str, Command]) -> None:
    while True:
        connection, _ = listening.accept()
        with connection:
            connection.settimeout(_PATIENCE)
            try:
                asked = connection.recv(_MOST_BYTES).decode().strip()
                connection.sendall(json.dumps(_answer(asked, commands)).encode())
            except OSError:
                # Whoever asked has gone.
                continue


def _answer(asked: str, commands: Mapping[str, Command]) -> dict[str, object]:
    command = commands.get(asked)
    if command is None:
        return {"error": f"there is no command {asked!r}"}
    try:
        return dict(command())
    except (TunnelError, KeyStoreError) as error:
        return {"error": str(error)}


def tell(folder: Path, command: str) -> dict[str, Any]:
    """Tell a tunnel; returns what it answers.

    Raises:
        TunnelError: if it does not, or it refuses.
    """
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_PATIENCE)
            connection.connect(str(folder / SOCKET))
            connection.sendall(command.encode())
            connection.shutdown(socket.SHUT_WR)
            text = b"".join(iter(lambda: connection.recv(_MOST_BYTES), b""))
        found = json.loads(text)
    except (OSError, ValueError) as error:
        raise TunnelError(f"no tunnel answers at {folder / SOCKET}: {error!r}") from None
    if "error" in found:
        raise TunnelError(str(found["error"]))
    return dict(found)


def main(arguments: list[str] | None = None) -> int:
    """Tell, and for ``rotate`` say each step until it is over."""
    parser = argparse.ArgumentParser(prog="python3 -m gateway.tunnel.control")
    parser.add_argument("command", choices=["status", "rotate", "call-off"])
    parser.add_argument("--folder", type=Path, default=FOLDER)
    found = parser.parse_args(arguments)
    try:
        if found.command == "status":
            print(json.dumps(tell(found.folder, "status")))  # noqa: T201
            return 0
        before = tell(found.folder, "status")["publicKey"]
        tell(found.folder, found.command)
        return _follow(found.folder, str(before), is_rotation=found.command == "rotate")
    except TunnelError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1


def _follow(folder: Path, before: str, *, is_rotation: bool) -> int:
    said = ""
    while step := (status := tell(folder, "status"))["step"]:
        if step != said:
            print(step, flush=True)  # noqa: T201
            said = step
        time.sleep(_PAUSE)
    changed = status["publicKey"] != before
    print("done" if changed else "as before", status["publicKey"])  # noqa: T201
    return 0 if changed is is_rotation else 1


if __name__ == "__main__":
    sys.exit(main())
