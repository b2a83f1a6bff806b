"""The whole API, fuzzed for a moment on a real evaluator; ``tests/lab`` does so for minutes."""

import asyncio
from pathlib import Path

import httpx
import pytest

from tests.engine.conftest import Database
from tests.engine.http.fuzzing import fuzz
from tests.engine.http.serving import write_source
from tests.engine.running import environment, running

pytestmark = pytest.mark.anyio

SECONDS = 12


async def test_nothing_that_is_sent_makes_the_api_fail(tmp_path: Path, database: Database) -> None:
    source = write_source(tmp_path)
    async with running(environment(source, database, tmp_path / "state")) as engine:
        assert await asyncio.to_thread(fuzz, engine.api, tmp_path, SECONDS) > 50
        async with httpx.AsyncClient() as client:
            assert (await client.get(f"{engine.health}/readyz")).status_code == 200
        assert b"Traceback" not in engine.said
        assert await engine.end() == 0
