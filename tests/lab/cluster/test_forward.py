"""What is forwarded arrives whole, both ways, to its end; what is not there is refused."""

from __future__ import annotations

import gc
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from lab.cluster.forward import forward
from lab.cluster.network import entered

PORT = 4000
ECHO = f"""
import asyncio
async def echo(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()
async def main():
    server = await asyncio.start_server(echo, "127.0.0.1", {PORT})
    print("ready", flush=True)
    await server.serve_forever()
asyncio.run(main())
"""

SILENT = f"""
import socket
listening, taken = socket.create_server(("127.0.0.1", {PORT + 2})), []
print("ready", flush=True)
while True:
    taken.append(listening.accept()[0])
"""
_MOMENT = 0.3
_TOLD: dict[str, Any] = {"stdout": subprocess.PIPE, "text": True}


@pytest.fixture(scope="module")
def namespace() -> Iterator[str]:
    name = f"zt-test-{os.getpid()}"
    for arguments in (["netns", "add", name], ["-n", name, "link", "set", "lo", "up"]):
        subprocess.run(["ip", *arguments], check=True)  # noqa: S607
    command = entered(name, (sys.executable, "-c", ECHO))
    with subprocess.Popen(command, **_TOLD) as server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == "ready\n"
            yield name
        finally:
            server.kill()
            subprocess.run(["ip", "netns", "delete", name], check=True)  # noqa: S607


def returned(port: int, sent: bytes) -> bytes:
    """What comes back after all was sent and the sending side closed."""
    with socket.create_connection(("127.0.0.1", port)) as connection, ThreadPoolExecutor() as other:

        def send() -> None:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)

        done = other.submit(send)
        found = b"".join(iter(lambda: connection.recv(1 << 16), b""))
        done.result()
        return found


def test_all_of_it_and_many_at_once(namespace: str) -> None:
    port = forward(namespace, "127.0.0.1", PORT)
    sent = [os.urandom(size) for size in (1, 1 << 10, 1 << 23)] * 5
    with ThreadPoolExecutor(len(sent)) as clients:
        assert list(clients.map(lambda each: returned(port, each), sent)) == sent


def test_only_the_namespace_is_another(namespace: str) -> None:
    """The thread that dials is there, everybody else still here."""
    before = Path("/proc/thread-self/ns/net").readlink()
    port = forward(namespace, "127.0.0.1", PORT)
    assert returned(port, b"x") == b"x"
    assert Path("/proc/thread-self/ns/net").readlink() == before
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", PORT))


def test_where_nobody_listens_the_connection_ends(namespace: str) -> None:
    port = forward(namespace, "127.0.0.1", PORT + 1)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        assert connection.recv(1) == b""


def test_an_answer_that_never_comes_is_still_waited_for(
    namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    with subprocess.Popen(entered(namespace, (sys.executable, "-c", SILENT)), **_TOLD) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        port = forward(namespace, "127.0.0.1", PORT + 2)
        for _ in range(5):
            with socket.create_connection(("127.0.0.1", port)) as connection:
                connection.sendall(b"x")
                time.sleep(_MOMENT)
                connection.shutdown(socket.SHUT_WR)
        time.sleep(_MOMENT)
        gc.collect()
        server.kill()
    # A task that is forgotten before it has ended is said by asyncio.
    assert caplog.text == ""


def test_a_namespace_that_is_not_there() -> None:
    with pytest.raises(FileNotFoundError):
        forward("zt-no-such", "127.0.0.1", PORT)
