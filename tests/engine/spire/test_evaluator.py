"""The evaluator as a process, which has its SVID from an agent."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import grpc
import httpx
import pytest

from tests.engine.conftest import Database, Write
from tests.engine.running import environment, running, start
from tests.engine.samples import DB, ENGINE, WEB, Authority, eventually, with_callers
from tests.engine.sidecar import ALLOWED, check, question
from tests.engine.spire.workload_api import Agent, given, serving

pytestmark = pytest.mark.anyio


@pytest.fixture
def svid_path() -> Iterator[Path]:
    with TemporaryDirectory(dir="/dev/shm") as name:
        yield Path(name) / "svid"


@pytest.fixture
def settings(
    write_policy: Write, database: Database, tmp_path: Path, svid_path: Path
) -> dict[str, str]:
    health, api = _free_port(), _free_port()
    return environment(write_policy(with_callers()), database, tmp_path / "state") | {
        "ZT_PLAINTEXT": "",
        "ZT_HOST": "127.0.0.1",
        "ZT_API_HOST": "127.0.0.1",
        "ZT_API_PORT": str(api),
        "ZT_HEALTH_PORT": str(health),
        "ZT_SPIRE_SOCKET": f"unix://{tmp_path}/agent.sock",
        "ZT_SVID_PATH": str(svid_path),
    }


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@asynccontextmanager
async def waiting(settings: dict[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    """The evaluator, as soon as its health answers."""
    process = await start(settings)
    try:
        await eventually(lambda: _answers(settings))
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def _answers(settings: dict[str, str]) -> bool:
    try:
        await health(settings, "healthz")
    except httpx.TransportError:
        return False
    return True


async def health(settings: dict[str, str], path: str) -> httpx.Response:
    async with httpx.AsyncClient() as client:
        return await client.get(f"http://127.0.0.1:{settings['ZT_HEALTH_PORT']}/{path}")


async def test_until_the_first_svid_only_health_answers_and_says_why(
    settings: dict[str, str], tmp_path: Path, authority: Authority
) -> None:
    agent = Agent(refusal=(grpc.StatusCode.PERMISSION_DENIED, "no identity issued"))
    api = ("127.0.0.1", int(settings["ZT_API_PORT"]))
    with serving(tmp_path / "agent.sock", agent):
        async with waiting(settings) as process:

            async def says_why() -> bool:
                alive = await health(settings, "healthz")
                assert alive.status_code == 200
                assert alive.text.startswith("waits for its SVID from the SPIRE agent at ")
                return "knows no registration of this process" in alive.text

            await eventually(says_why)
            ready = await health(settings, "readyz")
            assert ready.status_code == 503
            assert "knows no registration" in ready.json()["identity"]["problem"]
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(api)
            agent.refusal = None
            agent.say(given(authority, ENGINE))

            async def is_ready() -> bool:
                return (await health(settings, "readyz")).status_code == 200

            await eventually(is_ready)
            socket.create_connection(api).close()
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0


async def test_told_to_stop_while_it_waits_it_stops(settings: dict[str, str]) -> None:
    async with waiting(settings) as process:
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(5):
            assert await process.wait() == 0


async def test_its_ports_follow_what_the_agent_gives(
    settings: dict[str, str], tmp_path: Path, authority: Authority, svid_path: Path
) -> None:
    agent = Agent()
    agent.say(given(authority, ENGINE))
    with serving(tmp_path / "agent.sock", agent):
        async with running(settings) as engine:
            answer = await check(engine.grpc, question(), authority=authority, spiffe=DB)
            assert answer.status.code == ALLOWED
            found = (await health(settings, "readyz")).json()
            assert found["status"] == "ready"
            assert found["identity"]["spiffe"] == ENGINE
            assert 3000 < found["identity"]["secondsLeft"] <= 3600
            renewed = Authority()
            agent.say(given(renewed, ENGINE))

            async def is_served() -> bool:
                url = f"https://127.0.0.1:{settings['ZT_API_PORT']}/v1/explain"
                asked = {"source": WEB, "destination": DB, "port": "5432"}
                try:
                    async with httpx.AsyncClient(verify=renewed.client(WEB)) as client:
                        return (await client.get(url, params=asked)).status_code == 200
                except httpx.TransportError:
                    return False

            await eventually(is_served)
            answer = await check(engine.grpc, question(), authority=renewed, spiffe=DB)
            assert answer.status.code == ALLOWED
            assert (svid_path / "svid_key.pem").stat().st_mode & 0o777 == 0o600
            assert await engine.end() == 0
    assert b"PRIVATE KEY" not in engine.said


async def test_an_agent_that_is_away_is_told_and_changes_nothing(
    settings: dict[str, str], tmp_path: Path, authority: Authority
) -> None:
    agent = Agent()
    agent.say(given(authority, ENGINE))
    path = tmp_path / "agent.sock"
    with serving(path, agent):
        async with running(settings) as first:
            assert await first.end() == 0

    async def is_degraded() -> bool:
        found = (await health(settings, "readyz")).json()
        return bool(found["status"] == "degraded")

    # The SVID of the run before is still there, and good.
    async with running(settings) as engine:
        await eventually(is_degraded)
        found = await health(settings, "readyz")
        assert found.status_code == 200
        assert "no agent answers at" in found.json()["identity"]["problem"]
        answer = await check(engine.grpc, question(), authority=authority, spiffe=DB)
        assert answer.status.code == ALLOWED
        (before,) = engine.children("agent")
        os.kill(before, signal.SIGKILL)
        await eventually(lambda: engine.children("agent") not in (set(), {before}))
        assert await engine.end() == 0


async def test_a_folder_on_a_disk_is_refused_in_one_sentence(
    settings: dict[str, str], tmp_path: Path
) -> None:
    process = await start(settings | {"ZT_SVID_PATH": str(Path(__file__).parent)})
    _, said = await process.communicate()
    assert process.returncode == 2
    assert b"is not in memory, and a private key must touch no disk: mount an emptyDir" in said
    assert b"Traceback" not in said
    await _goes_on(settings | {"ZT_SVID_PATH": str(tmp_path), "ZT_SVID_STORAGE": "any"})


async def _goes_on(settings: dict[str, str]) -> None:
    async with waiting(settings) as process:
        assert process.returncode is None
