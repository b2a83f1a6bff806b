"""The API's port: what it answers, to whom, and how it refuses."""

import asyncio
import contextlib
import json
import re
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from time import perf_counter
from typing import Any
from uuid import UUID

import httpx
import pytest

from engine.audit.outcome import record_id
from engine.http import api as api_module
from engine.http import bodies, explain, trail
from engine.http.answers import Answerer
from engine.http.callers import LOCAL
from engine.http.guard import is_loopback_name
from engine.http.problems import MAX_BODY
from engine.http.turns import Turns
from tests.engine.audit.ledger import DENIED, OUTCOME, Ledger, now
from tests.engine.conftest import Database
from tests.engine.http.serving import (
    ON_CALL,
    PROMETHEUS,
    READER,
    SERVICE,
    STRANGER,
    WRITER,
    Served,
    serving,
)
from tests.engine.samples import API, DB, NEW, POLICY, WEB, Deferred, Desk, eventually
from zt.decide import Verdict

pytestmark = pytest.mark.anyio

QUESTION: dict[str, object] = {"source": WEB, "destination": DB, "port": 5432}
EXPLAIN = {"source": WEB, "destination": DB, "port": "5432"}


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path) as found:
        yield found


async def ask(served: Served, **changes: object) -> dict[str, Any]:
    answer = await served.client.post("/v1/evaluate", json=QUESTION | changes)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def problem(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    found = answer.json()
    assert found["status"] == answer.status_code
    assert found["title"]
    return answer.status_code, found["type"].removeprefix("https://zt.hanzo.ai/problems/")


# --- Questions ------------------------------------------------------------------------------------


async def test_a_decision_says_what_holds_why_and_by_which_policy(served: Served) -> None:
    answer = await ask(served)
    assert answer.pop("latency_us") >= 0
    assert UUID(answer.pop("decisionId")) == record_id(served.desk.spool.writer, 1)
    assert re.fullmatch("[0-9a-f]{16}", answer.pop("revision"))
    assert answer == {
        "decision": "ALLOW",
        "wouldBe": "ALLOW",
        "rule": "core/rule-1",
        "reason": "rule",
        "phase": "enforce",
    }
    assert (await ask(served, source=API, destination=NEW))["wouldBe"] == "DENY"


async def test_who_is_behind_a_question_is_recorded_and_not_decided_upon(served: Served) -> None:
    plain = await ask(served)
    told = await ask(served, pod="web-1", node="n7", operator={"subject": "ada"})
    assert {**told, **dict.fromkeys(("decisionId", "latency_us"))} == {
        **plain,
        **dict.fromkeys(("decisionId", "latency_us")),
    }
    outcome = served.desk.outcomes[-1]
    assert (outcome.source_pod, outcome.source_node) == ("web-1", "n7")
    assert (outcome.on_behalf_of, outcome.layer) == ("operator:ada", "api")


@pytest.mark.parametrize(
    "question",
    [QUESTION, QUESTION | {"port": 1}, QUESTION | {"source": STRANGER}, {}, [], {"source": 1}],
)
async def test_both_ways_to_an_answer_say_the_same(served: Served, question: object) -> None:
    """The protocol of the port answers nearly all questions, the application the others."""
    body = json.dumps(question).encode()
    first = Answerer(served.parts.decider).one(body, LOCAL, lambda: None)
    assert isinstance(first, bytes)
    head, _, content = first.partition(b"\r\n\r\n")
    second = await served.client.post("/v1/evaluate", content=body)
    varying = dict.fromkeys(("decisionId", "latency_us"))
    assert json.loads(content) | varying == second.json() | varying
    assert head.startswith(f"HTTP/1.1 {second.status_code} ".encode())


async def test_a_batch_is_decided_and_recorded_whole_or_not_at_all(served: Served) -> None:
    questions = [QUESTION | {"port": port} for port in (5432, 1, 2)]
    answer = await served.client.post("/v1/evaluate:batch", json={"requests": questions})
    assert [one["decision"] for one in answer.json()["answers"]] == ["ALLOW", "DENY", "DENY"]
    assert [outcome.destination_port for outcome in served.desk.outcomes] == [5432, 1, 2]
    questions[1] = {"source": WEB, "prot": 1}
    answer = await served.client.post("/v1/evaluate:batch", json={"requests": questions})
    assert problem(answer) == (422, "invalid-request")
    assert [fault["pointer"] for fault in answer.json()["errors"]] == [
        "#/requests/1/prot",
        "#/requests/1/destination",
        "#/requests/1/port",
    ]
    assert len(served.desk.outcomes) == 3


async def test_a_batch_of_a_thousand_is_answered(served: Served) -> None:
    questions = {"requests": [QUESTION] * 1000}
    answer = await served.client.post("/v1/evaluate:batch", json=questions)
    ids = [one["decisionId"] for one in answer.json()["answers"]]
    assert len(set(ids)) == len(served.desk.outcomes) == 1000


async def test_without_a_record_there_is_no_yes(tmp_path: Path) -> None:
    desk = Desk()
    desk.spool.available = False
    async with serving(tmp_path, desk=desk) as served:
        answer = await ask(served)
        assert (answer["decision"], answer["reason"]) == ("DENY", "audit_unavailable")
        assert answer["decisionId"] is None


@pytest.mark.parametrize(("safe", "decision"), [(True, "ALLOW"), (False, "DENY")])
async def test_an_answer_waits_until_its_record_is_safe(
    tmp_path: Path,
    safe: bool,  # noqa: FBT001
    decision: str,
) -> None:
    durability = Deferred()
    async with serving(tmp_path, desk=Desk(durability=durability)) as served:
        task = asyncio.create_task(ask(served))
        await eventually(lambda: bool(durability.waiting))
        durability.settle(safe)
        assert (await task)["decision"] == decision


# --- Who may ask ----------------------------------------------------------------------------------

PLACES = ("/v1/policies", "/v1/policies/core", "/v1/audit", "/v1/graph", "/", "/assets/page.js")


@pytest.mark.parametrize("path", PLACES)
async def test_only_readers_read(served: Served, path: str) -> None:
    for who, code in (
        (WRITER, "not-allowed"),
        (SERVICE, "not-allowed"),
        (ON_CALL, "step-up-required"),
        (STRANGER, "unknown-caller"),
        (None, "unknown-caller"),
    ):
        served.become(who)
        headers = {"X-Forwarded-Client-Cert": f"URI={READER}", "Authorization": "Bearer x"}
        assert problem(await served.client.get(path, headers=headers)) == (403, code)
    served.become(READER)
    assert (await served.client.get(path)).status_code in (200, 503)


async def test_services_ask_about_themselves(served: Served) -> None:
    for who, source, destination, status in (
        (SERVICE, SERVICE, WEB, 200),
        (SERVICE, WEB, SERVICE, 200),
        (SERVICE, WEB, API, 403),
        (READER, API, NEW, 200),
        (STRANGER, STRANGER, DB, 403),
    ):
        served.become(who)
        question = {"source": source, "destination": destination, "port": 5432}
        one = await served.client.post("/v1/evaluate", json=question)
        many = await served.client.post("/v1/evaluate:batch", json={"requests": [question] * 2})
        assert (one.status_code, many.status_code) == (status, status)
        parameters = {name: str(value) for name, value in question.items()}
        assert (await served.client.get("/v1/explain", params=parameters)).status_code == status
    assert len(served.desk.outcomes) == 9


async def test_one_question_about_others_refuses_a_batch(served: Served) -> None:
    served.become(SERVICE)
    questions = [QUESTION, {"source": WEB, "destination": API, "port": 5432}]
    answer = await served.client.post("/v1/evaluate:batch", json={"requests": questions})
    assert (answer.status_code, served.desk.outcomes) == (403, [])


async def test_metrics_are_for_whoever_scrapes_the_mesh(served: Served) -> None:
    for who, status in ((PROMETHEUS, 200), (READER, 200), (SERVICE, 403), (STRANGER, 403)):
        served.become(who)
        assert (await served.client.get("/metrics")).status_code == status
    served.become(PROMETHEUS)
    scraped = await served.client.get("/metrics")
    assert scraped.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "zt_evaluation_duration_seconds" in scraped.text


async def test_callers_who_may_not_ask_are_counted(served: Served) -> None:
    counted: list[str] = []
    served.parts.decider.metrics.unknown_caller = counted.append  # type: ignore[assignment]
    served.become(STRANGER)
    await served.client.post("/v1/evaluate", json=QUESTION)
    served.become(SERVICE)
    await served.client.get("/v1/audit")
    await served.client.put("/v1/policies/core", content=b"")
    assert counted == ["unknown_caller", "not_allowed", "not_allowed"]


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True),
        ("LOCALHOST:8054", True),
        ("127.0.0.1:8054", True),
        ("127.9.9.9", True),
        ("[::1]:8054", True),
        ("[::1]", True),
        ("zt.example.com", False),
        ("127.0.0.1.example.com", False),
        ("10.0.0.1", False),
        ("", False),
        ("[", False),
    ],
)
async def test_pages_of_others_do_not_reach_a_developers_port(
    served: Served,
    host: str,
    loopback: bool,  # noqa: FBT001
) -> None:
    assert is_loopback_name(host) == loopback
    if host not in ("", "["):
        answer = await served.client.get("/v1/policies", headers={"Host": host})
        assert answer.status_code == (200 if loopback else 421)
        served.become(READER)
        assert (await served.client.get("/v1/policies", headers={"Host": host})).status_code == 200


# --- How it refuses -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/v1/policies/nobody", 404),
        ("GET", "/assets/nothing", 404),
        ("GET", "/v1/evaluate", 405),
        ("DELETE", "/v1/policies/core", 405),
        ("OPTIONS", "/v1/evaluate", 405),
        ("PUT", "/v1/audit", 405),
        ("GET", "/v1/explain", 422),
        ("GET", "/docs", 404),
    ],
)
async def test_every_refusal_is_a_problem(
    served: Served, method: str, path: str, status: int
) -> None:
    answer = await served.client.request(method, path)
    assert problem(answer)[0] == status
    assert ("allow" in answer.headers) == (status == 405)


async def test_why_it_fails_is_for_its_log_alone(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> str:
        raise RuntimeError("secret reason")

    monkeypatch.setattr(api_module, "render", fail)
    answer = await served.client.get("/metrics")
    assert problem(answer) == (500, "internal")
    assert "secret" not in answer.text
    assert (await ask(served))["decision"] == "ALLOW"


async def raw(served: Served, *pieces: bytes, pause: float = 0.0) -> bytes:
    """What comes back for bytes on a connection of their own, also while they are sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    found = bytearray()

    async def listen() -> None:
        with contextlib.suppress(ConnectionError):
            while chunk := await reader.read(1 << 16):
                found.extend(chunk)

    listening = asyncio.create_task(listen())
    with contextlib.suppress(ConnectionError):
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause)
    await listening
    writer.close()
    return bytes(found)


@pytest.mark.parametrize("path", ["/v1/evaluate", "/v1/evaluate:batch", "/v1/policies/core"])
async def test_a_body_that_is_too_large_is_refused_before_it_is_read(
    served: Served, path: str
) -> None:
    method = "PUT" if "policies" in path else "POST"
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nIf-Match: *\r\n"
        "Content-Type: application/yaml\r\n"
    )
    declared = f"{head}Content-Length: {MAX_BODY + 1}\r\n\r\n".encode()
    answer = await raw(served, declared)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in answer.lower()
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    chunked = f"{head}Transfer-Encoding: chunked\r\n\r\n".encode()
    answer = await raw(served, chunked, *[chunk] * (MAX_BODY >> 16), b"1\r\n \r\n")
    assert answer.startswith(b"HTTP/1.1 413 ")
    fitting = json.dumps(QUESTION).encode() + b" " * (MAX_BODY - 200)
    whole = await served.client.post("/v1/evaluate", content=fitting)
    assert whole.status_code == 200


async def test_a_body_that_does_not_come_is_not_waited_for(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies.body_of, "__defaults__", (MAX_BODY, 0.3))
    head = b"POST /v1/evaluate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\n"
    begun = perf_counter()
    slow = asyncio.create_task(raw(served, head, b"{", b'"', b"s", pause=0.15))
    assert (await ask(served))["decision"] == "ALLOW"
    answer = await slow
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert perf_counter() - begun < 3
    assert len(served.desk.outcomes) == 1


async def test_a_body_that_is_cut_off_is_no_question(served: Served) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(b"POST /v1/evaluate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n{")
    await writer.drain()
    writer.close()
    await ask(served)
    assert len(served.desk.outcomes) == 1


# --- Explanations ---------------------------------------------------------------------------------


async def test_an_explanation_says_what_each_plane_does(served: Served) -> None:
    found = (await served.client.get("/v1/explain", params=EXPLAIN)).json()
    decision = await ask(served)
    for name in ("decision", "rule", "reason", "phase", "wouldBe", "revision"):
        assert found[name] == decision[name]
    assert {"identity", "handshake", "decision", "sidecar RBAC"} <= {
        plane["plane"] for plane in found["planes"]
    }
    assert found["file"] == "policies/policy.yaml"
    denied = await served.client.get("/v1/explain", params=EXPLAIN | {"source": NEW})
    assert denied.json()["decision"] == "DENY"
    assert denied.json()["hints"]


async def test_a_question_why_is_no_decision(served: Served) -> None:
    await served.client.get("/v1/explain", params=EXPLAIN)
    assert served.desk.outcomes == []


async def test_an_explanation_is_made_once_for_each_policy(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    original = explain._asked

    async def asked(parts: Any, source: str, *others: Any) -> dict[str, Any]:  # noqa: ANN401
        made.append(source)
        return await original(parts, source, *others)

    monkeypatch.setattr(explain, "_asked", asked)
    for _ in range(2):
        await served.client.get("/v1/explain", params=EXPLAIN)
    assert made == [WEB]
    (served.source / "policy.yaml").write_text(POLICY)
    served.reload()
    await served.client.get("/v1/explain", params=EXPLAIN)
    assert made == [WEB, WEB]


@pytest.mark.parametrize(
    "ends",
    [
        {"source": "web"},
        {"source": "--help"},
        {"source": "spiffe://hanzo.ai/east/shop/*"},
        {"destination": "spiffe://hanzo.ai/ns/shop/sa/web"},
        {"port": "0"},
        {"port": "five"},
        {"source": ""},
    ],
)
async def test_only_identities_are_explained(served: Served, ends: dict[str, str]) -> None:
    answer = await served.client.get("/v1/explain", params=EXPLAIN | ends)
    assert problem(answer) == (422, "invalid-request")
    assert answer.json()["errors"][0]["parameter"] in ends


async def test_parties_that_nobody_declares_are_explained_too(served: Served) -> None:
    for source in (STRANGER, "external:nobody", "external:--help"):
        found = await served.client.get("/v1/explain", params=EXPLAIN | {"source": source})
        assert (found.status_code, found.json()["reason"]) == (200, "unknown_source")


async def test_explanations_take_turns_and_give_up_in_time(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explain, "_PATIENCE", 0.01)
    assert problem(await served.client.get("/v1/explain", params=EXPLAIN)) == (503, "timed-out")
    object.__setattr__(served.parts, "explaining", Turns(1, 0.1))
    async with served.parts.explaining.taken():
        answer = await served.client.get("/v1/explain", params=EXPLAIN)
    assert problem(answer) == (503, "busy")
    assert answer.headers["retry-after"] == "1"


async def test_of_a_table_alone_only_the_decision_is_told(served: Served) -> None:
    view = served.parts.decider.view
    snapshot = replace(view.snapshot, folder=None)
    served.parts.decider.view = type(view)(snapshot, view.locations)
    found = (await served.client.get("/v1/explain", params=EXPLAIN)).json()
    assert (found["decision"], found["planes"], found["hints"]) == ("ALLOW", None, [])
    assert (await served.client.get("/v1/policies")).json()["policies"] == []
    assert (await served.client.get("/v1/policies/core")).status_code == 404


# --- Policies -------------------------------------------------------------------------------------


async def test_policies_are_listed_as_they_are_written(served: Served) -> None:
    listed = (await served.client.get("/v1/policies")).json()
    core, evaluators = listed["policies"]
    assert (core["kind"], core["name"]) == ("ServiceAccessPolicy", "core")
    assert core["spec"]["rules"][2] == {
        "from": {"spiffe": API},
        "to": [{"spiffe": DB, "ports": [5432]}],
        "expires": "2026-11-23",
    }
    assert evaluators["kind"] == "OperatorAccessPolicy"
    assert (listed["problems"], len(listed["revision"])) == ([], 16)
    for policy in (core, evaluators):
        one = await served.client.get(f"/v1/policies/{policy['name']}")
        assert one.headers["etag"] == policy["etag"]
        assert one.json()["spec"] == policy["spec"]


async def test_a_bad_change_is_told_and_left_out(served: Served) -> None:
    before = (await served.client.get("/v1/policies")).json()
    (served.source / "policy.yaml").write_text("kind: [")
    served.reload()
    after = (await served.client.get("/v1/policies")).json()
    assert "not YAML" in after.pop("problems")[0]
    assert after | {"problems": []} == before


async def test_what_is_known_already_is_not_sent_again(served: Served) -> None:
    for accept in ("application/json", "application/yaml"):
        first = await served.client.get("/v1/policies/core", headers={"Accept": accept})
        headers = {"Accept": accept, "If-None-Match": first.headers["etag"]}
        again = await served.client.get("/v1/policies/core", headers=headers)
        assert (again.status_code, again.content) == (304, b"")


async def test_documents_of_two_kinds_may_have_one_name(tmp_path: Path) -> None:
    agent = (
        "---\napiVersion: zt.hanzo.ai/v1\nkind: AgentAccessPolicy\nmetadata: {name: core}\n"
        "spec: {clientId: helper, maxTokenLifetime: 15m, "
        "services: [{service: web, port: 5432}]}\n"
    )
    text = POLICY.replace("ports: [{port: 5432}]", "ports: [{port: 5432, protocol: http}]", 1)
    async with serving(tmp_path, text + agent) as served:
        answer = await served.client.get("/v1/policies/core")
        assert problem(answer) == (409, "ambiguous")
        found = await served.client.get("/v1/policies/core?kind=AgentAccessPolicy")
        assert found.json()["spec"]["maxTokenLifetime"] == "15m"
        answer = await served.client.get("/v1/policies/core?kind=Mesh")
        assert problem(answer) == (422, "invalid-request")


# --- The trail ------------------------------------------------------------------------------------


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


# --- The page, and the description ----------------------------------------------------------------


async def test_the_page_and_its_parts_come_with_their_headers(served: Served) -> None:
    home = await served.client.get("/")
    assert home.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in home.headers["content-security-policy"]
    parts = re.findall(r'(?:src|href)="(assets/[^"]+)"', home.text)
    assert len(parts) == 3
    for part in parts:
        found = await served.client.get(f"/{part}")
        assert (found.status_code, found.headers["x-content-type-options"]) == (200, "nosniff")


async def test_the_api_describes_itself_to_those_whom_it_knows(served: Served) -> None:
    described = (await served.client.get("/openapi.json")).json()
    assert described["paths"].keys() == {
        "/v1/evaluate",
        "/v1/evaluate:batch",
        "/v1/explain",
        "/v1/policies",
        "/v1/policies/{name}",
        "/v1/audit",
        "/v1/audit/{identifier}",
        "/v1/graph",
    }
    assert "HTTPValidationError" not in described["components"]["schemas"]
    for operations in described["paths"].values():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                if int(status) >= 400:
                    assert response["content"].keys() == {"application/problem+json"}
    for who, status in ((SERVICE, 200), (STRANGER, 403)):
        served.become(who)
        assert (await served.client.get("/openapi.json")).status_code == status
