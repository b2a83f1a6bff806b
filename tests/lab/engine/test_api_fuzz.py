"""The whole API, fuzzed for minutes on a real evaluator, while others are answered."""

import asyncio
import os
from itertools import count
from pathlib import Path
from time import perf_counter

import httpx
import pytest

from tests.engine.conftest import Database
from tests.engine.http.fuzzing import fuzz
from tests.engine.http.serving import write_source
from tests.engine.running import environment, running
from tests.engine.samples import DB, WEB

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(1200)]

# Less where time is short.
SECONDS = int(os.environ.get("ZT_FUZZ_SECONDS", "300"))
QUESTION = {"source": WEB, "destination": DB, "port": 5432}
# On two processors, one of which the fuzzer takes.
SLOWEST = 2.0


async def ask_on(url: str) -> tuple[int, float]:
    """Ask until cancelled; how many answers there were, and how long the slowest took."""
    slowest = 0.0
    async with httpx.AsyncClient(timeout=30) as client:
        for number in count():
            try:
                begun = perf_counter()
                answer = await client.post(f"{url}/v1/evaluate", json=QUESTION)
                slowest = max(slowest, perf_counter() - begun)
                assert answer.status_code == 200
                assert answer.json()["decisionId"]
                await asyncio.sleep(0.05)
            except asyncio.CancelledError:
                return number, slowest
    raise AssertionError


async def test_nothing_that_is_sent_makes_the_api_fail(tmp_path: Path, database: Database) -> None:
    source = write_source(tmp_path)
    async with running(environment(source, database, tmp_path / "state")) as engine:
        asking = asyncio.create_task(ask_on(engine.api))
        cases = await asyncio.to_thread(fuzz, engine.api, tmp_path, SECONDS, seed=7)
        asking.cancel()
        answers, slowest = await asking
        assert cases > 3 * SECONDS
        assert answers > SECONDS
        assert slowest < SLOWEST
        async with httpx.AsyncClient() as client:
            ready = (await client.get(f"{engine.health}/readyz")).json()
        assert (ready["status"] != "unavailable", ready["audit"]["lost"]) == (True, 0)
        assert b"Traceback" not in engine.said
        assert await engine.end() == 0
