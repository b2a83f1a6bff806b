"""The trail and the graph, through the port."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from engine.audit.outcome import record_id
from engine.http import trail
from engine.http.turns import Turns
from tests.engine.audit.ledger import DENIED, OUTCOME, Ledger, now
from tests.engine.conftest import Database
from tests.engine.http.serving import (
    STRANGER,
    Served,
    ask,
    problem,
    serving,
)
from tests.engine.samples import API, DB, NEW, WEB, eventually
from zt.decide import Verdict

pytestmark = pytest.mark.anyio


@pytest.fixture
async def trailed(tmp_path: Path, database: Database) -> AsyncIterator[tuple[Served, Ledger]]:
    ledger = Ledger.of(database.admin)
    ledger.days(now().date() - timedelta(days=1), 3)
    async with serving(tmp_path, dsn=database.dsn) as found:
        yield found, ledger
    ledger.close()


async def test_records_have_the_specifications_shape(trailed: tuple[Served, Ledger]) -> None:
    served, ledger = trailed
    (added,) = ledger.add((now(), OUTCOME))
    (record,) = (await served.client.get("/v1/audit")).json()["records"]
    assert (await served.client.get(f"/v1/audit/{added.id}")).json() == record
    assert record["source"] == {"spiffe_id": WEB, "pod": "web-1", "node": "n1"}
    assert record["destination"] == {"spiffe_id": DB, "port": 5432}
    assert (record["decision"], record["policy_matched"]) == ("ALLOW", "core/rule-1")
    assert (record["latency_us"], record["id"]) == (42, str(added.id))
    missing = await served.client.get(f"/v1/audit/{record_id(1, 1)}")
    assert problem(missing) == (404, "not-found")


async def test_records_are_filtered_and_paged(trailed: tuple[Served, Ledger]) -> None:
    served, ledger = trailed
    start = now()
    kinds = [OUTCOME, DENIED, OUTCOME._replace(source_pod="web-2")]
    pairs = [(start + timedelta(milliseconds=n), kinds[n % 3]) for n in range(7)]
    added = [str(record.id) for record in ledger.add(*pairs)][::-1]

    async def found(**query: str) -> list[str]:
        answer = await served.client.get("/v1/audit", params=query)
        assert answer.status_code == 200, answer.text
        return [record["id"] for record in answer.json()["records"]]

    assert await found() == added
    assert await found(verdict="DENY") == [added[2], added[5]]
    assert await found(pod="web-2") == [added[1], added[4]]
    assert await found(rule="default") == await found(verdict="DENY")
    assert await found(source=API) == []
    since = (start + timedelta(milliseconds=5)).isoformat()
    assert await found(since=since) == added[:2]
    assert await found(until=since.replace("+00:00", "Z")) == added[2:]
    first = (await served.client.get("/v1/audit", params={"limit": 4})).json()
    assert [record["id"] for record in first["records"]] == added[:4]
    assert await found(limit="4", cursor=first["next"]) == added[4:]
    rest = (await served.client.get("/v1/audit", params={"cursor": first["next"]})).json()
    assert rest["next"] is None


async def test_a_stream_is_all_records_a_line_each(
    trailed: tuple[Served, Ledger], monkeypatch: pytest.MonkeyPatch
) -> None:
    served, ledger = trailed
    monkeypatch.setattr(trail, "_CHUNK", 2)
    start = now()
    added = ledger.add(*((start + timedelta(milliseconds=n), OUTCOME) for n in range(5)))
    headers = {"Accept": "application/x-ndjson"}

    async def lines(**query: str) -> list[str]:
        answer = await served.client.get("/v1/audit", params=query, headers=headers)
        assert answer.headers["content-type"].startswith("application/x-ndjson")
        return [json.loads(line)["id"] for line in answer.text.splitlines()]

    ids = [str(record.id) for record in reversed(added)]
    assert await lines() == ids
    for limit in (1, 2, 3, 5, 9):
        assert await lines(limit=str(limit)) == ids[:limit]
    assert await lines(source=API) == []


async def test_a_stream_that_nobody_reads_ends(
    trailed: tuple[Served, Ledger], monkeypatch: pytest.MonkeyPatch
) -> None:
    served, ledger = trailed
    monkeypatch.setattr(trail, "_SEND_PATIENCE", 0.2)
    long = OUTCOME._replace(reason="x" * 500)
    start = now()
    ledger.add(*((start + timedelta(microseconds=n), long) for n in range(6000)))
    object.__setattr__(served.parts, "streaming", Turns(1, 0.1))
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 12)
    narrow.connect(("127.0.0.1", served.port))
    reader, writer = await asyncio.open_connection(sock=narrow, limit=1 << 12)
    ask_for = b"GET /v1/audit HTTP/1.1\r\nHost: localhost\r\nAccept: application/x-ndjson\r\n\r\n"
    writer.write(ask_for)
    assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"

    async def is_free() -> bool:
        query = {"limit": "1"}
        headers = {"Accept": "application/x-ndjson"}
        answer = await served.client.get("/v1/audit", params=query, headers=headers)
        return answer.status_code == 200

    assert not await is_free()
    await eventually(is_free)
    writer.close()


@pytest.mark.parametrize(
    "query",
    [
        {"limit": "0"},
        {"limit": "100000"},
        {"verdict": "MAYBE"},
        {"since": "yesterday"},
        {"since": "2026-11-23T00:00:00"},
        {"since": "1700000000"},
        {"since": "0001-01-01T00:00:00+23:59"},
        {"cursor": "elsewhere"},
        {"pod_name": "web-1"},
        {"source": "\0"},
        {"rule": "x" * 513},
    ],
)
async def test_a_filter_that_makes_no_sense_is_refused(
    served: Served, query: dict[str, str]
) -> None:
    answer = await served.client.get("/v1/audit", params=query)
    assert problem(answer) == (422, "invalid-request")
    assert {fault["parameter"] for fault in answer.json()["errors"]} == query.keys()


async def test_the_graph_is_what_was_seen(trailed: tuple[Served, Ledger]) -> None:
    served, ledger = trailed
    unknown = DENIED._replace(source_id=STRANGER)
    observed = OUTCOME._replace(source_id=API, destination_id=NEW, would_be=Verdict.DENY)
    ledger.add((now(), OUTCOME), (now(), OUTCOME), (now(), unknown), (now(), observed))
    found = (await served.client.get("/v1/graph")).json()
    declared = {node["id"]: node["declared"] for node in found["nodes"]}
    assert declared == {API: True, DB: True, NEW: True, STRANGER: False, WEB: True}
    counts = {
        (edge["source"], edge["destination"]): (edge["allowed"], edge["denied"], edge["wouldDeny"])
        for edge in found["edges"]
    }
    assert counts == {(WEB, DB): (2, 0, 0), (STRANGER, DB): (0, 1, 0), (API, NEW): (1, 0, 1)}
    assert (await served.client.get("/v1/graph?since=2999-01-01T00:00:00Z")).json()["edges"] == []
    assert problem(await served.client.get("/v1/graph?since=today"))[0] == 422


async def test_a_trail_that_is_away_is_said_to_be_and_decisions_go_on(served: Served) -> None:
    for path in ("/v1/audit", "/v1/graph", f"/v1/audit/{record_id(1, 1)}"):
        answer = await served.client.get(path)
        assert problem(answer) == (503, "audit-unreadable")
        assert "nowhere" not in answer.text
    stream = await served.client.get("/v1/audit", headers={"Accept": "application/x-ndjson"})
    assert problem(stream) == (503, "audit-unreadable")
    assert (await served.client.get("/")).status_code == 200
    assert (await ask(served))["decision"] == "ALLOW"
