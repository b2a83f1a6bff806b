"""The evaluator as a process, told everything by its environment."""

import asyncio
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.engine.conftest import Database, Write
from tests.engine.samples import DB, ENGINE, POLICY, WEB, Authority, eventually
from tests.engine.sidecar import ALLOWED, check, entry, question, report

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
PORTS = re.compile(rb"answers on ports (\d+) \(API\), (\d+) \(health\), (\d+) \(gRPC\)")
PASSWORD = "hunter2"


def environment(policies: Path, database: Database, **others: str) -> dict[str, str]:
    return {
        "PATH": os.defpath,
        "PYTHONPATH": str(ROOT),
        "ZT_POLICY_PATH": str(policies),
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
    )


@dataclass
class Running:
    """A running evaluator: its process, its ports, and what it has said so far."""

    process: asyncio.subprocess.Process
    api: str
    health: str
    grpc: str
    said: bytes = b""

    async def end(self) -> int:
        """Ask it to stop; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.stderr is not None
        self.said += await self.process.stderr.read()
        return await self.process.wait()


@asynccontextmanager
async def running(settings: Mapping[str, str]) -> AsyncIterator[Running]:
    process = await start(settings)
    assert process.stderr is not None
    said = b""
    try:
        while not (found := PORTS.search(said)):
            line = await process.stderr.readline()
            assert line, said.decode()
            said += line
        api, health, grpc = (int(port) for port in found.groups())
        yield Running(
            process,
            f"http://127.0.0.1:{api}",
            f"http://127.0.0.1:{health}",
            f"127.0.0.1:{grpc}",
            said,
        )
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_all_three_ports_answer_and_sigterm_ends_it_in_good_order(
    write_policy: Write, database: Database
) -> None:
    async with running(environment(write_policy(POLICY), database)) as engine:
        async with httpx.AsyncClient() as client:
            body = {"source": WEB, "destination": DB, "port": 5432}
            asked = await client.post(f"{engine.api}/v1/evaluate", json=body)
            assert asked.json()["decision"] == "ALLOW"
            assert (await client.get(f"{engine.health}/readyz")).json()["status"] == "ready"
        assert (await check(engine.grpc, question())).status.code == ALLOWED
        await report(engine.grpc, [entry(uri=None, reason="TLS_error:|1:SSL:x:HTTP_REQUEST")])
        assert database.rows() == 3
        assert await engine.end() == 0
    assert PASSWORD.encode() not in engine.said
    assert all(re.match(rb"\d{4}-\d\d-\d\dT", line) for line in engine.said.splitlines())


async def test_with_an_svid_the_grpc_port_is_mutual_tls(
    write_policy: Write, database: Database, authority: Authority, tmp_path: Path
) -> None:
    authority.write(tmp_path / "svid", ENGINE)
    settings = environment(
        write_policy(POLICY),
        database,
        ZT_PLAINTEXT="",
        ZT_HOST="127.0.0.1",
        ZT_SVID_PATH=str(tmp_path / "svid"),
    )
    async with running(settings) as engine:
        answer = await check(engine.grpc, question(), authority=authority, spiffe=DB)
        assert answer.status.code == ALLOWED
        assert await engine.end() == 0


async def test_a_changed_policy_is_followed(write_policy: Write, database: Database) -> None:
    async with running(environment(write_policy(POLICY), database)) as engine:
        assert (await check(engine.grpc, question())).status.code == ALLOWED
        write_policy(POLICY.replace("shop/*", "shop/api"))

        async def is_refused() -> bool:
            answer = await check(engine.grpc, question())
            return bool(answer.status.code != ALLOWED)

        await eventually(is_refused)


async def test_what_is_missing_is_one_sentence_and_exit_code_2() -> None:
    process = await start({"PATH": os.defpath, "PYTHONPATH": str(ROOT)})
    _, said = await process.communicate()
    assert process.returncode == 2
    assert said.startswith(b"engine: ZT_AUDIT_DSN is not set: ")
    assert said.count(b"\n") == 1


@pytest.mark.parametrize("name", ["ZT_API_PORT", "ZT_HEALTH_PORT", "ZT_GRPC_PORT"])
async def test_a_port_in_use_is_one_sentence(
    write_policy: Write, database: Database, name: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = environment(write_policy(POLICY), database, **{name: str(port)})
        process = await start(settings)
        _, said = await process.communicate()
    assert process.returncode == 2
    last = said.splitlines()[-1].decode()
    assert last == f"engine: 127.0.0.1:{port} is in use: stop what listens there, or set a port"
    assert b"Traceback" not in said


async def test_an_svid_that_is_not_there_is_one_sentence(
    write_policy: Write, database: Database, tmp_path: Path
) -> None:
    settings = environment(
        write_policy(POLICY), database, ZT_PLAINTEXT="", ZT_SVID_PATH=str(tmp_path / "none")
    )
    process = await start(settings | {"ZT_HOST": "127.0.0.1"})
    _, said = await process.communicate()
    assert process.returncode == 2
    assert said.splitlines()[-1].endswith(b"svid.pem cannot be read: No such file or directory")
