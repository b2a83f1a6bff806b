"""The evaluator with its SVID from a real SPIRE: its ports, rotation, and an agent that goes."""

import asyncio
import contextlib
import inspect
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import httpx
import pytest

from tests.engine.conftest import Database, Write
from tests.engine.running import Running, environment, running, start
from tests.engine.samples import DB, ENGINE, WEB, Authority, eventually, with_callers
from tests.engine.sidecar import ALLOWED, check, question
from tests.lab.spire_identity.site import Minted, Spire, spire

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]


@pytest.fixture
def site(tmp_path: Path, postgres: str) -> Iterator[Spire]:
    # Not below pytest's own folder: its path would be too long for a socket.
    with TemporaryDirectory(prefix="zt-spire-") as name, spire(Path(name), postgres) as made:
        assert tmp_path.is_dir()
        yield made


@pytest.fixture
def settings(
    write_policy: Write, database: Database, tmp_path: Path, site: Spire
) -> Iterator[dict[str, str]]:
    with TemporaryDirectory(dir="/dev/shm") as memory, socket.create_server(("127.0.0.1", 0)) as it:
        health = it.getsockname()[1]
        it.close()
        yield environment(write_policy(with_callers()), database, tmp_path / "state") | {
            "ZT_PLAINTEXT": "",
            "ZT_HOST": "127.0.0.1",
            "ZT_API_HOST": "127.0.0.1",
            "ZT_HEALTH_PORT": str(health),
            "ZT_SPIRE_SOCKET": str(site.socket),
            "ZT_SVID_PATH": f"{memory}/svid",
            "ZT_CLUSTER": "east",
            "ZT_WEBHOOK": "zt-injection",
            "ZT_WEBHOOK_PORT": "0",
            "ZT_ENVOY_IMAGE": "envoy",
            "ZT_REDIRECT_IMAGE": "gateway",
        }


async def identity(settings: dict[str, str]) -> dict[str, Any]:
    """What readiness says of the SVID."""
    async with httpx.AsyncClient() as client:
        found = await client.get(f"http://127.0.0.1:{settings['ZT_HEALTH_PORT']}/readyz")
    return dict(found.json()["identity"])


async def serves(engine: Running, minted: Minted) -> None:
    """Mutual TLS on both ports, and TLS on the webhook's."""
    authority = cast("Authority", minted)
    answer = await check(engine.grpc, question(), authority=authority, spiffe=DB)
    assert answer.status.code == ALLOWED
    asked = {"source": WEB, "destination": DB, "port": 5432}
    url = engine.api.replace("http:", "https:")
    async with httpx.AsyncClient(verify=minted.client(WEB)) as client:
        decided = await client.post(f"{url}/v1/evaluate", json=asked)
    assert decided.json()["decision"] == "ALLOW"
    await eventually(lambda: b"the webhook answers" in engine.said)
    found = re.search(rb"the webhook answers on port (\d+)", engine.said)
    assert found
    hook = f"https://127.0.0.1:{int(found[1])}/inject"
    async with httpx.AsyncClient(verify=minted.client(None)) as client:
        assert (await client.post(hook, content=b"no review")).status_code == 400


async def patiently(holds: Callable[[], bool | Awaitable[bool]]) -> None:
    """As ``eventually``: a registration takes SPIRE some seconds, and a renewal half a life."""
    async with asyncio.timeout(60):
        while True:
            found = holds()
            if await found if inspect.isawaitable(found) else found:
                return
            await asyncio.sleep(0.2)


def certificate(engine: Running) -> str:
    """What the gRPC port shows to whoever comes."""
    host, _, port = engine.grpc.partition(":")
    return ssl.get_server_certificate((host, int(port)))


async def test_it_serves_with_what_spire_gives_and_follows_each_renewal(
    site: Spire, settings: dict[str, str]
) -> None:
    site.register(ENGINE, 20)
    site.start_agent()
    async with running(settings) as engine:
        await serves(engine, Minted(site))
        seen: set[str] = set()

        def has_rotated_twice() -> bool:
            seen.add(certificate(engine))
            return len(seen) > 2

        await patiently(has_rotated_twice)
        found = await identity(settings)
        assert (found["spiffe"], found["problem"]) == (ENGINE, None)
        assert 0 < found["secondsLeft"] <= 20
        await serves(engine, Minted(site))
    assert b"PRIVATE KEY" not in engine.said


async def test_it_waits_for_its_registration_and_says_so(
    site: Spire, settings: dict[str, str]
) -> None:
    site.start_agent()
    process = await start(settings)

    async def waits() -> bool:
        with contextlib.suppress(httpx.TransportError):
            found = await identity(settings)
            return "knows no registration of this process" in str(found["problem"])
        return False

    async def serves_now() -> bool:
        with contextlib.suppress(httpx.TransportError):
            return bool((await identity(settings))["spiffe"] == ENGINE)
        return False

    try:
        await patiently(waits)
        site.register(ENGINE, 60)
        await patiently(serves_now)
    finally:
        process.terminate()
        await process.communicate()


async def test_an_agent_that_restarts_is_found_again(site: Spire, settings: dict[str, str]) -> None:
    site.register(ENGINE, 40)
    site.start_agent()
    async with running(settings) as engine:
        before = certificate(engine)
        site.stop_agent()

        async def is_told() -> bool:
            return "no agent answers at" in str((await identity(settings))["problem"])

        await patiently(is_told)
        await serves(engine, Minted(site))
        assert certificate(engine) == before
        site.start_agent()

        async def is_well() -> bool:
            return (await identity(settings))["problem"] is None

        await patiently(is_well)
        await patiently(lambda: certificate(engine) != before)
        await serves(engine, Minted(site))
