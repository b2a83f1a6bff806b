"""The API, through ASGI and with a real trail."""

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID
from xml.etree import ElementTree as ET

import httpx
import pytest

from engine.api import Parts, create_app
from engine.audit import AuditWriter
from engine.decider import Decider
from engine.metrics import Metrics
from engine.snapshot import PolicyStore
from engine.trail import AuditReader
from tests.engine.conftest import Database, Write
from tests.engine.samples import API, DB, LOCATIONS, NEW, POLICY, TODAY, WEB

pytestmark = pytest.mark.anyio

NOWHERE = "host=/nowhere dbname=none user=zt"


@asynccontextmanager
async def serving(folder: Path, dsn: str) -> AsyncIterator[httpx.AsyncClient]:
    store = PolicyStore(folder, lambda: TODAY)
    store.refresh()
    writer, reader = AuditWriter(dsn), AuditReader(dsn)
    decider = Decider(lambda: store.current, lambda: LOCATIONS, writer, Metrics())
    app = create_app(Parts(store, decider, reader, lambda: writer.available))
    await writer.start()
    transport = httpx.ASGITransport(app=app)
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://zt") as client:
            yield client
    finally:
        await writer.stop()


@pytest.fixture
async def client(write_policy: Write, database: Database) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(write_policy(POLICY), database.dsn) as served:
        yield served


def question(
    source: str | None = WEB, destination: str = DB, **others: object
) -> dict[str, object]:
    return {"source": source, "destination": destination, "port": 5432} | others


async def ask(client: httpx.AsyncClient, **changes: Any) -> dict[str, Any]:  # noqa: ANN401
    answer = await client.post("/v1/evaluate", json=question(**changes))
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


async def test_a_decision_says_what_holds_why_and_by_which_policy(
    client: httpx.AsyncClient,
) -> None:
    answer = await ask(client)
    latency = answer.pop("latency_us")
    assert UUID(answer.pop("decisionId")).version == 4
    assert re.fullmatch("[0-9a-f]{16}", answer.pop("revision"))
    assert latency >= 0
    assert answer == {
        "decision": "ALLOW",
        "wouldBe": "ALLOW",
        "rule": "core/rule-1",
        "reason": "rule",
        "phase": "enforce",
    }
    assert (await ask(client, source=API, destination=NEW))["wouldBe"] == "DENY"


@pytest.mark.parametrize(
    "body",
    [
        {},
        question(port=0),
        question(port=70000),
        question(port="many"),
        question(source=None),
        question(source="x" * 513),
        [],
    ],
)
async def test_a_bad_question_is_not_decided(
    client: httpx.AsyncClient, database: Database, body: object
) -> None:
    assert (await client.post("/v1/evaluate", json=body)).status_code == 422
    assert database.rows() == 0


async def test_a_record_has_the_specifications_shape(client: httpx.AsyncClient) -> None:
    answer = await ask(client, pod="web-1", node="worker-3")
    (record,) = (await client.get("/v1/audit")).json()["records"]
    assert datetime.fromisoformat(record.pop("timestamp")).tzinfo is not None
    assert record == {
        "decision": "ALLOW",
        "source": {"spiffe_id": WEB, "pod": "web-1", "node": "worker-3"},
        "destination": {"spiffe_id": DB, "port": 5432},
        "policy_matched": "core/rule-1",
        "latency_us": answer["latency_us"],
        "id": answer["decisionId"],
        "would_be": "ALLOW",
        "phase": "enforce",
        "reason": "rule",
        "layer": "api",
        "revision": answer["revision"],
    }


async def test_records_are_filtered_and_paged(client: httpx.AsyncClient) -> None:
    ids = [(await ask(client, source=source))["decisionId"] for source in (WEB, API, NEW)]

    async def found(**query: object) -> list[str]:
        answer = await client.get("/v1/audit", params=query)  # type: ignore[arg-type]
        return [record["id"] for record in answer.json()["records"]]

    assert await found(source=API) == [ids[1]]
    assert await found(verdict="DENY") == [ids[2]]
    assert await found(since=datetime.now(UTC).isoformat()) == []
    first = (await client.get("/v1/audit", params={"limit": 2})).json()
    assert [record["id"] for record in first["records"]] == [ids[2], ids[1]]
    assert await found(limit=2, cursor=first["next"]) == [ids[0]]
    last = (await client.get("/v1/audit", params={"cursor": first["next"]})).json()
    assert last["next"] is None


@pytest.mark.parametrize(
    "query",
    [
        {"limit": "0"},
        {"limit": "100000"},
        {"verdict": "MAYBE"},
        {"since": "yesterday"},
        {"since": "2026-11-23T00:00:00"},
        {"cursor": "elsewhere"},
        {"pod_name": "web-1"},
    ],
)
async def test_a_filter_that_makes_no_sense_is_refused(
    client: httpx.AsyncClient, query: dict[str, str]
) -> None:
    assert (await client.get("/v1/audit", params=query)).status_code == 422


async def test_the_graph_is_what_was_seen(client: httpx.AsyncClient) -> None:
    await ask(client)
    await ask(client)
    stranger = "spiffe://hanzo.ai/east/shop/stranger"
    await ask(client, source=stranger)
    await ask(client, source=API, destination=NEW)
    graph = (await client.get("/v1/graph")).json()
    assert graph["nodes"] == [
        {"id": API, "declared": True},
        {"id": DB, "declared": True},
        {"id": NEW, "declared": True},
        {"id": stranger, "declared": False},
        {"id": WEB, "declared": True},
    ]
    edges = {(edge["source"], edge["destination"], edge["port"]): edge for edge in graph["edges"]}
    granted = edges[WEB, DB, 5432]
    assert (granted["allowed"], granted["denied"], granted["wouldDeny"]) == (2, 0, 0)
    observed = edges[API, NEW, 5432]
    assert (observed["allowed"], observed["denied"], observed["wouldDeny"]) == (1, 0, 1)
    assert edges[stranger, DB, 5432]["denied"] == 1
    assert granted["lastSeen"].endswith("Z")


async def test_policies_are_listed_as_they_are_written(client: httpx.AsyncClient) -> None:
    listed = (await client.get("/v1/policies")).json()
    (core,) = listed["policies"]
    assert (core["kind"], core["name"]) == ("ServiceAccessPolicy", "core")
    assert core["spec"]["rules"][2] == {
        "from": {"spiffe": API},
        "to": [{"spiffe": DB, "ports": [5432]}],
        "expires": "2026-11-23",
    }
    assert listed["problems"] == []
    assert len(listed["revision"]) == 16


async def test_metrics_are_served_as_prometheus_reads_them(client: httpx.AsyncClient) -> None:
    await ask(client)
    scraped = await client.get("/metrics")
    assert scraped.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert f'zt_decisions_total{{decision="allow",source="{WEB}",dest="{DB}"}} 1' in scraped.text
    assert "zt_audit_available 1" in scraped.text


async def test_the_page_shows_the_graph_without_any_other_server(
    client: httpx.AsyncClient,
) -> None:
    await ask(client, source="spiffe://hanzo.ai/<script>alert(1)</script>")
    html = (await client.get("/")).text
    assert "<script" not in html
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//""", html)
    drawn = re.search(r"<svg.*</svg>", html, re.DOTALL)
    assert drawn is not None
    assert ET.fromstring(drawn[0]).tag.endswith("svg")  # noqa: S314 - we drew it
    assert "&lt;script&gt;" in html


async def test_without_a_policy_the_page_says_that_everything_is_refused(
    tmp_path: Path, database: Database
) -> None:
    async with serving(tmp_path / "nowhere", database.dsn) as client:
        assert (await ask(client))["reason"] == "no_policy"
        assert "everything is refused" in (await client.get("/")).text


async def test_without_a_trail_decisions_are_no_and_readers_are_told(
    write_policy: Callable[[str], Path],
) -> None:
    async with serving(write_policy(POLICY), NOWHERE) as client:
        answer = await ask(client)
        assert (answer["decision"], answer["reason"]) == ("DENY", "audit_unavailable")
        for path in ("/v1/audit", "/v1/graph"):
            refused = await client.get(path)
            assert refused.status_code == 503
            assert refused.json() == {"detail": "the audit trail cannot be read now"}
        assert "cannot be read now" in (await client.get("/")).text


async def test_the_api_describes_itself(client: httpx.AsyncClient) -> None:
    described = (await client.get("/openapi.json")).json()
    assert {"/v1/evaluate", "/v1/policies", "/v1/audit", "/v1/graph"} <= set(described["paths"])
