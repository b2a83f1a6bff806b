"""The evaluator as a process, told everything by its environment."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.engine.conftest import Database

ROOT = Path(__file__).parents[2]
PASSWORD = "hunter2"
_PORTS = re.compile(rb"answers on ports (\d+) \(API\), (\d+) \(health\), (\d+) \(gRPC\)")


def environment(policies: Path, database: Database, state: Path, **others: str) -> dict[str, str]:
    return {
        "PATH": os.defpath,
        "PYTHONPATH": str(ROOT),
        "ZT_POLICY_PATH": str(policies),
        "ZT_STATE_PATH": str(state),
        "ZT_SEGMENT_BYTES": str(1 << 20),
        "ZT_SPOOL_BYTES": str(64 << 20),
        "ZT_AUDIT_DSN": f"{database.dsn} password={PASSWORD}",
        "ZT_PLAINTEXT": "loopback",
        **dict.fromkeys(("ZT_API_PORT", "ZT_HEALTH_PORT", "ZT_GRPC_PORT"), "0"),
        **others,
    }


async def start(settings: Mapping[str, str]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-W", "error", "-m", "engine"),
        env=settings,
        stderr=asyncio.subprocess.PIPE,
        limit=1 << 20,
    )


@dataclass
class Running:
    """A running evaluator: its process, its ports, and what it has said so far."""

    process: asyncio.subprocess.Process
    api: str
    health: str
    grpc: str
    said: bytes
    listener: asyncio.Task[None] | None = None

    async def listen(self) -> None:
        """Take what it says, so that it never waits for its reader."""
        assert self.process.stderr is not None
        while line := await self.process.stderr.readline():
            self.said += line

    async def end(self) -> int:
        """Ask it to stop; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        code = await self.process.wait()
        assert self.listener is not None
        await self.listener
        return code

    def kill(self) -> None:
        """As the kernel would, out of memory."""
        self.process.kill()

    def children(self, name: str) -> set[int]:
        """Its living children of a name."""
        return {pid for pid, comm in _children(self.process.pid) if comm == f"zt-{name}"}


def _children(pid: int) -> Iterator[tuple[int, str]]:
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in file.read_text().split():
            yield int(child), Path(f"/proc/{child}/comm").read_text().strip()


@asynccontextmanager
async def running(settings: Mapping[str, str]) -> AsyncIterator[Running]:
    process = await start(settings)
    assert process.stderr is not None
    said = b""
    made: Running | None = None
    try:
        while not (found := _PORTS.search(said)):
            line = await process.stderr.readline()
            assert line, said.decode()
            said += line
        api, health, grpc = (int(port) for port in found.groups())
        places = (f"http://127.0.0.1:{api}", f"http://127.0.0.1:{health}", f"127.0.0.1:{grpc}")
        made = Running(process, *places, said)
        made.listener = asyncio.create_task(made.listen())
        yield made
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        if made is not None and made.listener is not None:
            await made.listener
