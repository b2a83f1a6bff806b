"""Metrics of a running evaluator with several workers, of which one is killed."""

import asyncio
import os
import signal
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.engine.conftest import Database, Write
from tests.engine.running import Running, environment, running
from tests.engine.samples import API, DB, POLICY, WEB, eventually

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]

Labels = frozenset[tuple[str, str]]
ALLOWED: Labels = frozenset({("decision", "allow"), ("source", WEB), ("dest", DB)})
REFUSED: Labels = frozenset({("decision", "deny"), ("source", API), ("dest", WEB)})
UNKNOWN: Labels = frozenset({("decision", "deny"), ("source", "unknown"), ("dest", DB)})
NONE: Labels = frozenset()


async def scrape(engine: Running) -> dict[tuple[str, Labels], float]:
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"{engine.api}/metrics")
    assert answer.status_code == 200
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


async def ask(engine: Running, source: str, destination: str, times: int) -> None:
    """Over new connections, so that every worker gets some."""
    question = {"source": source, "destination": destination, "port": 5432}
    for _ in range(times):
        async with httpx.AsyncClient() as client:
            answer = await client.post(f"{engine.api}/v1/evaluate", json=question)
        assert answer.status_code == 200


async def test_workers_count_together_and_the_killed_ones_too(
    write_policy: Write, database: Database, tmp_path: Path
) -> None:
    settings = environment(write_policy(POLICY), database, tmp_path / "state", ZT_WORKERS="2")
    async with running(settings) as engine:
        await ask(engine, WEB, DB, 40)
        await ask(engine, API, WEB, 7)
        await ask(engine, "spiffe://hanzo.ai/east/shop/nobody", DB, 3)
        for victim in sorted(engine.children("worker")):
            os.kill(victim, signal.SIGKILL)
            await asyncio.sleep(1)
            await eventually(lambda: len(engine.children("worker")) == 2)
            await ask(engine, WEB, DB, 10)
        found = await scrape(engine)
        assert found["zt_decisions_total", ALLOWED] == 60
        assert found["zt_decisions_total", REFUSED] == 7
        assert found["zt_decisions_total", UNKNOWN] == 3
        assert found["zt_evaluation_duration_seconds_count", NONE] == 70
        median = found["zt_evaluation_duration_seconds", frozenset({("quantile", "0.5")})]
        assert 1e-6 < median < 0.01
        assert found["zt_policy_ready", NONE] == 1
        assert found["zt_audit_available", NONE] == 1
        assert found["zt_audit_lost_total", NONE] == 0

        async def drained() -> bool:
            return (await scrape(engine))["zt_audit_rows_total", NONE] == 70

        await eventually(drained)
        assert len(list((tmp_path / "state" / "metrics").glob("*.cells"))) == 2
        assert await engine.end() == 0
