"""The evaluator killed again and again under load: what it acknowledged is in the trail, once."""

import asyncio
import json
import os
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import psycopg
import pytest

from tests.engine.conftest import Database, Write
from tests.engine.running import Running, environment, running
from tests.engine.samples import API, DB, POLICY, WEB

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(900)]

KILLS = 50
CONNECTIONS = 8
PORT = 18054


@dataclass
class Acknowledged:
    """What clients were told: decisions by the ID of their record."""

    decisions: dict[UUID, str] = field(default_factory=dict)
    unrecorded: Counter[str] = field(default_factory=Counter)

    def note(self, answer: dict[str, str]) -> None:
        if answer["decisionId"] is None:
            self.unrecorded[answer["decision"]] += 1
        else:
            identifier = UUID(answer["decisionId"])
            assert identifier not in self.decisions, "no ID is given twice"
            self.decisions[identifier] = answer["decision"]


async def client(acknowledged: Acknowledged) -> None:
    """Ask without end; whenever the evaluator is away, try again."""
    pick = random.Random()  # noqa: S311 - not for secrets
    while True:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
        except OSError:
            await asyncio.sleep(0.01)
            continue
        try:
            while True:
                body = {"source": pick.choice([WEB, API, DB]), "destination": DB, "port": 5432}
                content = json.dumps(body).encode()
                head = f"POST /v1/evaluate HTTP/1.1\r\nHost: zt\r\nContent-Length: {len(content)}"
                writer.write(f"{head}\r\n\r\n".encode() + content)
                answer = await reader.readuntil(b"\r\n\r\n")
                size = int(answer.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
                acknowledged.note(json.loads(await reader.readexactly(size)))
        except (OSError, asyncio.IncompleteReadError):
            writer.transport.abort()


@asynccontextmanager
async def load(acknowledged: Acknowledged) -> AsyncIterator[None]:
    clients = [asyncio.create_task(client(acknowledged)) for _ in range(CONNECTIONS)]
    try:
        yield
    finally:
        for task in clients:
            task.cancel()
        results = await asyncio.gather(*clients, return_exceptions=True)
        assert all(isinstance(found, asyncio.CancelledError) for found in results), results


def kill(engine: Running, victim: str) -> None:
    if victim == "all":
        engine.kill()
        return
    for pid in engine.children(victim):
        os.kill(pid, signal.SIGKILL)


def recorded(database: Database) -> Counter[tuple[UUID, str]]:
    with psycopg.connect(database.admin) as connection:
        rows = connection.execute("SELECT id, verdict FROM zt_audit.trail").fetchall()
    return Counter((row[0], row[1]) for row in rows)


async def test_killed_fifty_times_under_load(
    write_policy: Write, database: Database, tmp_path: Path
) -> None:
    settings = environment(
        write_policy(POLICY), database, tmp_path / "state", ZT_API_PORT=str(PORT)
    )
    acknowledged, kills, pick = Acknowledged(), Counter[str](), random.Random(54)  # noqa: S311
    async with load(acknowledged):
        while kills.total() < KILLS:
            async with running(settings) as engine:
                while kills.total() < KILLS:
                    await asyncio.sleep(pick.uniform(0.05, 0.6))
                    victim = pick.choice(["all", "worker", "worker", "drainer"])
                    kill(engine, victim)
                    kills[victim] += 1
                    if victim == "all":
                        break
    async with running(settings) as engine:
        await asyncio.sleep(1)
        assert await engine.end() == 0
    rows = recorded(database)
    print(  # noqa: T201 - the figures are what this run is for
        f"kills {dict(kills)}, acknowledged {len(acknowledged.decisions)}, rows {rows.total()}, "
        f"unrecorded {dict(acknowledged.unrecorded)}"
    )
    assert len(acknowledged.decisions) > 10 * KILLS
    assert set(acknowledged.decisions.items()) <= rows.keys(), "lost"
    assert max(rows.values()) == 1, "twice"
    assert not acknowledged.unrecorded["ALLOW"]
    assert not list((tmp_path / "state" / "spool").glob("*/*.segment")), "all is drained"
