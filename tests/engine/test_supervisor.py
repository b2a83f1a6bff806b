"""The evaluator as a process: its ports, its children, its end."""

import os
import re
import signal
import socket
from pathlib import Path

import httpx
import pytest

from tests.engine.conftest import Database, Write
from tests.engine.running import PASSWORD, ROOT, Running, environment, running, start
from tests.engine.samples import DB, ENGINE, POLICY, WEB, Authority, eventually, with_callers
from tests.engine.sidecar import ALLOWED, check, entry, question, report

pytestmark = pytest.mark.anyio

QUESTION: dict[str, str | int] = {"source": WEB, "destination": DB, "port": 5432}


@pytest.fixture
def settings(write_policy: Write, database: Database, tmp_path: Path) -> dict[str, str]:
    return environment(write_policy(POLICY), database, tmp_path / "state")


async def ask(engine: Running) -> str:
    """The decision about QUESTION."""
    async with httpx.AsyncClient() as client:
        answer = await client.post(f"{engine.api}/v1/evaluate", json=QUESTION)
    return str(answer.json()["decision"])


async def test_all_three_ports_answer_and_sigterm_drains_all(
    settings: dict[str, str], database: Database
) -> None:
    async with running(settings) as engine:
        assert await ask(engine) == "ALLOW"
        async with httpx.AsyncClient() as client:
            assert (await client.get(f"{engine.health}/healthz")).status_code == 200
            ready = await client.get(f"{engine.health}/readyz")
            assert ready.json()["status"] == "ready"
            metrics = await client.get(f"{engine.api}/metrics")
            assert 'zt_decisions_total{decision="allow"' in metrics.text
        assert (await check(engine.grpc, question())).status.code == ALLOWED
        await report(engine.grpc, [entry(uri=None, reason="TLS_error:|1:SSL:x:HTTP_REQUEST")])
        assert await engine.end() == 0
        assert database.rows() == 3
    assert PASSWORD.encode() not in engine.said
    assert all(re.match(rb"\d{4}-\d\d-\d\dT", line) for line in engine.said.splitlines())


async def test_with_an_svid_both_ports_are_mutual_tls(
    settings: dict[str, str],
    authority: Authority,
    tmp_path: Path,
    write_policy: Write,
    database: Database,
) -> None:
    write_policy(with_callers())
    authority.write(tmp_path / "svid", ENGINE)
    secured = settings | {
        "ZT_PLAINTEXT": "",
        "ZT_HOST": "127.0.0.1",
        "ZT_API_HOST": "127.0.0.1",
        "ZT_SVID_PATH": str(tmp_path / "svid"),
    }
    async with running(secured) as engine:
        answer = await check(engine.grpc, question(), authority=authority, spiffe=DB)
        assert answer.status.code == ALLOWED
        port = engine.api.rpartition(":")[2]
        url = f"https://127.0.0.1:{port}/v1/evaluate"
        async with httpx.AsyncClient(verify=authority.client(WEB)) as client:
            about_itself = await client.post(url, json=QUESTION)
            assert about_itself.json()["decision"] == "ALLOW"
            others = {"source": DB, "destination": DB, "port": 5432}
            assert (await client.post(url, json=others)).status_code == 403
            # The application knows the caller too.
            root = url.removesuffix("/v1/evaluate")
            assert (await client.get(f"{root}/v1/policies")).status_code == 403
            explained = await client.get(f"{root}/v1/explain", params=QUESTION)
            assert explained.status_code == 200
        async with httpx.AsyncClient(verify=authority.client(DB)) as client:
            refused = await client.post(url, json=QUESTION)
            assert (refused.status_code, refused.json()["type"].rpartition("/")[2]) == (
                403,
                "not-permitted",
            )
        with pytest.raises(httpx.HTTPError):
            async with httpx.AsyncClient(verify=authority.client(None)) as client:
                await client.post(url, json=QUESTION)
        with pytest.raises(httpx.HTTPError):
            async with httpx.AsyncClient() as client:
                await client.post(f"{engine.api}/v1/evaluate", json=QUESTION)
        assert await engine.end() == 0
    # The sidecar's question, web's connection and its question, and db's connection.
    assert database.rows() == 4


async def test_a_changed_policy_is_followed(settings: dict[str, str], write_policy: Write) -> None:
    async with running(settings) as engine:
        assert (await check(engine.grpc, question())).status.code == ALLOWED
        write_policy(POLICY.replace("shop/*", "shop/api"))

        async def is_refused() -> bool:
            answer = await check(engine.grpc, question())
            return bool(answer.status.code != ALLOWED)

        await eventually(is_refused)
        write_policy("kind: [")

        async def is_degraded() -> bool:
            async with httpx.AsyncClient() as client:
                ready = await client.get(f"{engine.health}/readyz")
            return ready.json()["status"] == "degraded" and ready.status_code == 200

        await eventually(is_degraded)
        assert (await check(engine.grpc, question())).status.code != ALLOWED


@pytest.mark.parametrize("name", ["worker", "drainer"])
async def test_a_child_that_dies_is_started_again(
    settings: dict[str, str], database: Database, name: str
) -> None:
    async with running(settings) as engine:
        assert await ask(engine) == "ALLOW"
        (before,) = engine.children(name)
        os.kill(before, signal.SIGKILL)
        await eventually(lambda: engine.children(name) not in (set(), {before}))
        await eventually(lambda: engine.said.count(b"answers on ports") == 1 + (name == "worker"))
        assert await ask(engine) == "ALLOW"
        await eventually(lambda: database.rows() == 2)
        async with httpx.AsyncClient() as client:
            metrics = await client.get(f"{engine.api}/metrics")
        counted = f'zt_decisions_total{{decision="allow",source="{WEB}",dest="{DB}"}} 2'
        assert counted in metrics.text, "a worker's death takes no counter back"
        assert await engine.end() == 0


async def test_no_child_outlives_its_supervisor(settings: dict[str, str]) -> None:
    async with running(settings) as engine:
        children = engine.children("worker") | engine.children("drainer")
        assert len(children) == 2
        engine.kill()
        await engine.process.wait()

        def are_gone() -> bool:
            return not any(Path(f"/proc/{pid}").exists() for pid in children)

        await eventually(are_gone)


async def test_workers_share_the_ports_and_their_counters_add_up(
    settings: dict[str, str], database: Database
) -> None:
    async with running(settings | {"ZT_WORKERS": "3"}) as engine:
        await eventually(lambda: engine.said.count(b"answers on ports") == 3)
        for _ in range(30):
            assert await ask(engine) == "ALLOW"
        async with httpx.AsyncClient() as client:
            metrics = await client.get(f"{engine.api}/metrics")
        assert "zt_evaluation_duration_seconds_count 30" in metrics.text
        assert await engine.end() == 0
        assert database.rows() == 30


async def test_grpcio_serves_too(settings: dict[str, str]) -> None:
    async with running(settings | {"ZT_GRPC": "grpcio"}) as engine:
        assert (await check(engine.grpc, question())).status.code == ALLOWED
        assert await engine.end() == 0


@pytest.mark.parametrize("durability", ["disk", "db"])
async def test_an_answer_waits_until_its_record_is_as_safe_as_asked(
    settings: dict[str, str], database: Database, durability: str
) -> None:
    async with running(settings | {"ZT_DURABILITY": durability}) as engine:
        for number in range(5):
            assert await ask(engine) == "ALLOW"
            assert durability == "disk" or database.rows() == number + 1
        assert (await check(engine.grpc, question())).status.code == ALLOWED
        assert await engine.end() == 0
        assert database.rows() == 6


async def test_what_is_missing_is_one_sentence_and_exit_code_2() -> None:
    process = await start({"PATH": os.defpath, "PYTHONPATH": str(ROOT)})
    _, said = await process.communicate()
    assert process.returncode == 2
    assert said.startswith(b"engine: ZT_AUDIT_DSN is not set: ")
    assert said.count(b"\n") == 1


@pytest.mark.parametrize("name", ["ZT_API_PORT", "ZT_HEALTH_PORT", "ZT_GRPC_PORT"])
async def test_a_port_in_use_is_one_sentence(settings: dict[str, str], name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = await start(settings | {name: str(port)})
        _, said = await process.communicate()
    assert process.returncode == 2
    last = said.splitlines()[-1].decode()
    assert last == f"engine: 127.0.0.1:{port} is in use: stop what listens there, or set a port"
    assert b"Traceback" not in said


async def test_a_state_folder_that_cannot_be_made_is_one_sentence(
    settings: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    process = await start(settings | {"ZT_STATE_PATH": str(tmp_path / "file")})
    _, said = await process.communicate()
    assert process.returncode == 2
    assert b"set ZT_STATE_PATH to a folder that the evaluator may write" in said.splitlines()[-1]


async def test_an_svid_that_is_not_there_is_one_sentence(
    settings: dict[str, str], tmp_path: Path
) -> None:
    missing = {"ZT_PLAINTEXT": "", "ZT_SVID_PATH": str(tmp_path / "none")}
    process = await start(settings | missing | {"ZT_HOST": "127.0.0.1", "ZT_API_HOST": "127.0.0.1"})
    _, said = await process.communicate()
    assert process.returncode == 2
    assert said.splitlines()[-1].endswith(b"svid.pem cannot be read: No such file or directory")
