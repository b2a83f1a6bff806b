"""The API's port: what it answers, and to whom."""

import asyncio
import json
import re
from pathlib import Path
from uuid import UUID

import pytest

from engine.audit.outcome import record_id
from engine.http.answers import Answerer
from engine.http.callers import LOCAL
from engine.http.guard import is_loopback_name
from tests.engine.http.serving import (
    ON_CALL,
    PROMETHEUS,
    QUESTION,
    READER,
    SERVICE,
    STRANGER,
    WRITER,
    Served,
    ask,
    problem,
    serving,
)
from tests.engine.samples import API, DB, NEW, WEB, Deferred, Desk, eventually

pytestmark = pytest.mark.anyio


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
