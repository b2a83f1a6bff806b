"""Ten thousand idle connections, floods beside a good client, and a short run of the fuzzer."""

import asyncio
import os
import resource
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from envoy.service.auth.v3.external_auth_pb2_grpc import AuthorizationStub

from tests.engine.envoy.proxy import client_context
from tests.engine.envoy.raw import DATA, PING, PREFACE, SETTINGS, asked, connected, frame, opened
from tests.engine.samples import DB, ENGINE, Authority
from tests.engine.sidecar import ALLOWED, about, channel, question

pytestmark = pytest.mark.anyio

IDLE = 10_000
IDLE_TLS = 1000
PAGE = os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": True}


@dataclass
class Server:
    """An evaluator in a process of its own."""

    process: subprocess.Popen[str]
    target: str

    @property
    def memory(self) -> int:
        """Bytes that it has of it."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * PAGE


@contextmanager
def serving(*arguments: str) -> Iterator[Server]:
    command = [sys.executable, "-m", "tests.lab.engine.grpc_server", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield Server(process, f"127.0.0.1:{process.stdout.readline().strip()}")
        process.kill()


@pytest.fixture(autouse=True)
def _many_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def say(text: str) -> None:
    """Shown with `-rP`."""
    sys.stdout.write(f"{text}\n")


@asynccontextmanager
async def asking(target: str) -> AsyncIterator[list[float]]:
    """A good client that asks all the while; milliseconds of its answers."""
    times: list[float] = []

    async def ask() -> None:
        async with channel(target) as calls:
            check = AuthorizationStub(calls).Check
            while True:
                started = time.perf_counter()
                assert (await check(question(), metadata=about())).status.code == ALLOWED
                times.append((time.perf_counter() - started) * 1000)
                await asyncio.sleep(0.002)

    task = asyncio.create_task(ask())
    await asyncio.sleep(0.5)
    assert not task.done()
    yield times
    assert not task.done()
    task.cancel()


async def connect(target: str, count: int, stack: ExitStack) -> list[socket.socket]:
    """Idle connections from many addresses of loopback: one would run out of ports."""
    host, _, port = target.partition(":")
    sockets = []
    for number in range(count):
        idle = stack.enter_context(socket.socket())
        idle.bind((f"127.0.1.{number % 50 + 1}", 0))
        idle.connect((host, int(port)))
        idle.send(PREFACE + frame(SETTINGS))
        sockets.append(idle)
        if number % 100 == 0:
            await asyncio.sleep(0.01)
    await asyncio.sleep(1.5)
    return sockets


async def answered(idle: socket.socket) -> bool:
    idle.settimeout(0)
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(idle, asked(1))
    heard = b""
    async with asyncio.timeout(5):
        while b"grpc" not in heard and len(heard) < 100:
            heard += await loop.sock_recv(idle, 4096)
    return bool(heard)


async def test_ten_thousand_idle_connections_cost_little() -> None:
    with serving() as server, ExitStack() as stack:
        async with asking(server.target) as alone:
            await asyncio.sleep(1)
        before = server.memory
        sockets = await connect(server.target, IDLE, stack)
        each = (server.memory - before) / IDLE
        async with asking(server.target) as beside:
            await asyncio.sleep(3)
        assert all([await answered(idle) for idle in sockets[:: IDLE // 100]])
    medians = statistics.median(alone), statistics.median(beside)
    say(f"{each:,.0f} bytes a connection; a Check takes {medians} ms without them, with them")
    assert each < 64 << 10
    assert medians[1] < 3 * medians[0] + 2


async def test_idle_connections_with_tls_cost_little(authority: Authority, tmp_path: Path) -> None:
    authority.write(tmp_path / "svid", ENGINE)
    context = client_context(tmp_path, authority, DB)
    context.set_alpn_protocols(["h2"])
    with serving(str(tmp_path / "svid")) as server:
        host, _, port = server.target.partition(":")
        before, writers = server.memory, []
        started = time.perf_counter()
        for _ in range(IDLE_TLS):
            _, writer = await asyncio.open_connection(host, int(port), ssl=context)
            writer.write(PREFACE + frame(SETTINGS))
            writers.append(writer)
        seconds = time.perf_counter() - started
        each = (server.memory - before) / IDLE_TLS
        for writer in writers:
            writer.close()
    say(f"{each:,.0f} bytes a connection, {seconds / IDLE_TLS * 1000:.2f} ms a handshake")
    assert each < 256 << 10


@pytest.mark.parametrize(
    "flood",
    [
        pytest.param(frame(PING, payload=bytes(8)) * 100, id="pings"),
        pytest.param(opened(1) + frame(DATA, 0, 1) * 1000, id="empty data"),
        pytest.param(b"".join(map(asked, range(1, 1001, 2))), id="Checks"),
    ],
)
async def test_floods_delay_a_good_client_by_milliseconds(flood: bytes) -> None:
    """Each of four peers sends as much as it can, and comes back when its connection is ended."""

    async def pour(target: str) -> None:
        while True:
            async with connected(target) as peer:
                for _ in range(50):
                    await peer.say(flood)
                await peer.listen(0.05)

    with serving() as server:
        async with asking(server.target) as times:
            floods = [asyncio.create_task(pour(server.target)) for _ in range(4)]
            await asyncio.sleep(6)
            for task in floods:
                task.cancel()
    times.sort()
    say(f"p50 {statistics.median(times):.1f} ms, p99 {times[len(times) * 99 // 100]:.1f} ms")
    assert len(times) > 50
    assert statistics.median(times) < 100


def test_a_minute_of_fuzzing_breaks_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.check", "--seconds", "60"],
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert done.returncode == 0, done.stdout
