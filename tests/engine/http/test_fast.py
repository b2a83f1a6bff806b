"""The API's port as its clients see it: bytes in, bytes out, on real sockets."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import pytest
import uvicorn
from fastapi import FastAPI, Request, Response
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.audit.outcome import id_prefix, id_rest, record_id
from engine.decider import View
from engine.http import fast
from engine.http.answers import Answerer
from engine.http.callers import caller_of
from engine.http.fast import Front, sweep
from engine.http.problems import MAX_BODY
from engine.locate import Locations
from engine.policy.table import empty_snapshot
from tests.engine.samples import DB, NEW, WEB, Deferred, Desk, eventually
from zt.decide import Verdict

pytestmark = pytest.mark.anyio

QUESTION = {"source": WEB, "destination": DB, "port": 5432}


def application() -> FastAPI:
    app = FastAPI()

    @app.get("/other")
    async def other() -> str:
        return "from the application"

    @app.post("/v1/evaluate")
    async def slow_way(request: Request) -> Response:
        caller = caller_of(request.scope)
        return Response(f"application, local={caller.local}")

    return app


@dataclass
class Served:
    """A port, and what answers behind it."""

    port: int
    desk: Desk
    server: uvicorn.Server

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)


@asynccontextmanager
async def served(desk: Desk, answerer: Answerer | None = None) -> AsyncIterator[Served]:
    front = partial(Front, answerer or Answerer(desk.decider), None)
    config = uvicorn.Config(application(), lifespan="off", access_log=False, log_config=None)
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    loop = asyncio.get_running_loop()

    def connection() -> asyncio.Protocol:
        return front(config=config, server_state=server.server_state, app_state={})

    listening = await loop.create_server(connection, "127.0.0.1", 0)
    try:
        yield Served(listening.sockets[0].getsockname()[1], desk, server)
    finally:
        listening.close()
        for left in list(server.server_state.connections):
            left.transport.abort()


def post(body: bytes, path: str = "/v1/evaluate", *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: zt", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def asked(**changes: object) -> bytes:
    return post(json.dumps(QUESTION | changes).encode())


async def response(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return int(head[0].split()[1]), headers, body


async def exchange(served_: Served, sent: bytes, answers: int = 1) -> list[tuple[int, bytes]]:
    reader, writer = await served_.connect()
    writer.write(sent)
    found = [await response(reader) for _ in range(answers)]
    writer.close()
    return [(status, body) for status, _, body in found]


async def test_a_question_is_answered_and_recorded(desk: Desk) -> None:
    async with served(desk) as at:
        ((status, body),) = await exchange(at, asked())
    answer = json.loads(body)
    assert status == 200
    assert answer["decision"] == "ALLOW"
    assert answer["rule"] == "core/rule-1"
    assert answer["decisionId"] == str(record_id(7, 1))
    (recorded,) = desk.outcomes
    assert (recorded.source_id, recorded.destination_id, recorded.layer) == (WEB, DB, "api")


async def test_many_in_one_write_are_answered_in_order(desk: Desk) -> None:
    async with served(desk) as at:
        sent = asked() + asked(port=1) + asked(source=DB)
        found = await exchange(at, sent, answers=3)
    reasons = [json.loads(body)["reason"] for _, body in found]
    assert reasons == ["rule", "port_not_declared", "no_rule"]
    assert [outcome.reason for outcome in desk.outcomes] == reasons


@settings(max_examples=40)
@given(cuts=st.lists(st.integers(1, 300), max_size=6), data=st.data())
def test_any_cut_of_the_bytes_is_the_same(cuts: list[int], data: st.DataObject) -> None:
    """Questions and other requests, mixed, in pieces of any size."""
    kinds = data.draw(st.lists(st.booleans(), min_size=1, max_size=4))

    async def run() -> None:
        desk = Desk()
        async with served(desk) as at:
            reader, writer = await at.connect()
            for is_question in kinds:
                sent = asked() if is_question else b"GET /other HTTP/1.1\r\nHost: zt\r\n\r\n"
                start = 0
                for cut in [*sorted(cuts), len(sent)]:
                    if start < cut <= len(sent):
                        writer.write(sent[start:cut])
                        await writer.drain()
                        await asyncio.sleep(0)
                        start = cut
                status, _, body = await response(reader)
                assert status == 200
                if cuts and min(cuts) < len(b"POST /v1/evaluate HTTP/1."):
                    continue  # what begins with less than that goes to the application
                assert (b"decisionId" in body) == is_question
            writer.close()

    asyncio.run(run())


async def test_a_connection_is_shared_with_the_application(desk: Desk) -> None:
    async with served(desk) as at:
        reader, writer = await at.connect()
        for sent, expected in [
            (asked(), b"decisionId"),
            (b"GET /other HTTP/1.1\r\nHost: zt\r\n\r\n", b"from the application"),
            (asked(), b"decisionId"),
            (b"POST /v1/evaluate?x=1 HTTP/1.1\r\nHost: zt\r\n\r\n", b"application, local=True"),
        ]:
            writer.write(sent)
            _, _, body = await response(reader)
            assert expected in body
        writer.close()


async def test_what_stands_behind_a_question_for_the_application_is_asked_again(
    desk: Desk,
) -> None:
    async with served(desk) as at:
        reader, writer = await at.connect()
        writer.write(asked() + b"GET /other HTTP/1.1\r\nHost: zt\r\n\r\n")
        status, _, body = await response(reader)
        assert status == 200
        assert b"decisionId" in body
        assert await reader.read() == b""
        writer.close()


BODY = json.dumps(QUESTION).encode()
CHUNKED = b"POST /v1/evaluate HTTP/1.1\r\nHost: zt\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKS = CHUNKED + b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)


@pytest.mark.parametrize(
    ("sent", "answers"),
    [
        (asked(), 1),
        (asked() + asked(port=1), 2),
        (asked() + b"GET /other HTTP/1.1\r\nHost: zt\r\n\r\n", 1),
        (CHUNKS, 1),
        (CHUNKS + asked(), 2),
        (post(b"{}"), 1),
        (post(BODY, "/v1/evaluate", "Connection: close"), 1),
        (post(BODY, "/v1/evaluate", "Content-Length: 3"), 1),
        (post(BODY).replace(b"\r\n", b"\n"), 1),
        (post(b'{"requests":[%b]}' % BODY, "/v1/evaluate:batch"), 1),
    ],
)
async def test_what_was_asked_in_the_same_way_before_is_answered_in_the_same_way(
    desk: Desk, sent: bytes, answers: int
) -> None:
    """Heads are parsed once. Whatever was parsed before, each request means what it says."""
    async with served(desk) as at:
        await exchange(at, asked())
        first, again = [await exchange(at, sent, answers) for _ in range(2)]
        known = await exchange(at, asked(port=1))
    assert [status for status, _ in first] == [status for status, _ in again]
    assert [said(body) for _, body in first] == [said(body) for _, body in again]
    assert said(known[0][1]) == {**said(known[0][1]), "reason": "port_not_declared"}


async def test_a_known_head_may_come_in_two_parts_or_with_more(desk: Desk) -> None:
    async with served(desk) as at:
        await exchange(at, asked())
        reader, writer = await at.connect()
        for part in (asked()[:-5], asked()[-5:] + asked()[:40], asked()[40:]):
            writer.write(part)
            await asyncio.sleep(0.02)
        found = [await response(reader) for _ in range(2)]
        writer.close()
    assert [(status, json.loads(body)["decision"]) for status, _, body in found] == [
        (200, "ALLOW"),
        (200, "ALLOW"),
    ]


async def test_heads_are_not_remembered_without_end(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fast, "_HEADS", 4)
    answerer = Answerer(desk.decider)
    async with served(desk, answerer) as at:
        for number in range(20):
            ((status, _),) = await exchange(at, post(BODY, "/v1/evaluate", f"X: {number}"))
            assert status == 200
            assert 1 <= len(answerer.heads) <= 4


def said(body: bytes) -> dict[str, object]:
    """An answer without what is of this time alone."""
    answer = json.loads(body)
    for one in answer.get("answers", [answer]):
        for name in ("decisionId", "latency_us"):
            one.pop(name, None)
    return dict(answer)


async def test_a_batch(desk: Desk) -> None:
    body = json.dumps({"requests": [QUESTION, QUESTION | {"port": 1}]}).encode()
    async with served(desk) as at:
        ((status, told),) = await exchange(at, post(body, "/v1/evaluate:batch"))
    assert status == 200
    assert [item["decision"] for item in json.loads(told)["answers"]] == ["ALLOW", "DENY"]
    assert len(desk.outcomes) == 2


async def test_closed_where_asked(desk: Desk) -> None:
    async with served(desk) as at:
        reader, writer = await at.connect()
        writer.write(post(json.dumps(QUESTION).encode(), "/v1/evaluate", "Connection: close"))
        status, _, _ = await response(reader)
        assert status == 200
        assert await reader.read() == b""
        writer.close()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (post(b"{}"), 422),
        (post(b"{"), 400),
        (post(b"x" * (MAX_BODY + 1)), 413),
        (b"POST /v1/evaluate HTTP/1.1\r\nHost: zt\r\nContent-Length: x\r\n\r\n", 400),
        (
            post(b"0", "/v1/evaluate", "Transfer-Encoding: chunked"),
            400,
        ),
    ],
)
async def test_what_is_wrong_is_a_problem(desk: Desk, sent: bytes, status: int) -> None:
    async with served(desk) as at:
        reader, writer = await at.connect()
        writer.write(sent)
        found, headers, body = await response(reader)
        assert found == status
        assert headers["content-type"] == "application/problem+json"
        assert json.loads(body)["status"] == status
        assert not desk.outcomes
        writer.close()


async def test_expect_is_answered(desk: Desk) -> None:
    body = json.dumps(QUESTION).encode()
    whole = post(body, "/v1/evaluate", "Expect: 100-continue")
    async with served(desk) as at:
        reader, writer = await at.connect()
        writer.write(whole[: -len(body)])
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body)
        assert (await response(reader))[0] == 200
        writer.close()


async def test_without_a_record_the_answer_is_deny(desk: Desk) -> None:
    desk.spool.available = False
    async with served(desk) as at:
        ((_, body),) = await exchange(at, asked())
    answer = json.loads(body)
    assert (answer["decision"], answer["reason"]) == ("DENY", "audit_unavailable")
    assert answer["decisionId"] is None


async def test_an_observed_service_goes_on_without_a_record(desk: Desk) -> None:
    desk.spool.available = False
    async with served(desk) as at:
        ((_, body),) = await exchange(at, asked(destination=NEW))
    answer = json.loads(body)
    assert (answer["decision"], answer["reason"]) == ("ALLOW", "audit_unavailable")


async def test_another_view_is_another_answer(desk: Desk) -> None:
    async with served(desk) as at:
        reader, writer = await at.connect()
        writer.write(asked())
        first = json.loads((await response(reader))[2])
        desk.decider.view = View(empty_snapshot(), Locations())
        writer.write(asked())
        second = json.loads((await response(reader))[2])
        writer.close()
    assert (first["decision"], second["decision"]) == ("ALLOW", "DENY")
    assert second["reason"] == "no_policy"


# --- Answers that wait ----------------------------------------------------------------------------


async def waiting(desk: Desk, count: int) -> None:
    await eventually(lambda: len(desk.durability.waiting) >= count)


@pytest.mark.parametrize(("safe", "decision"), [(True, "ALLOW"), (False, "DENY")])
async def test_an_answer_waits_until_its_record_is_safe(safe: bool, decision: str) -> None:  # noqa: FBT001
    desk = Desk(durability=Deferred())
    async with served(desk) as at:
        reader, writer = await at.connect()
        writer.write(asked())
        await waiting(desk, 1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.05)
        desk.durability.settle(safe)
        answer = json.loads((await response(reader))[2])
        assert answer["decision"] == decision
        assert answer["decisionId"] == str(record_id(7, 1))
        writer.close()


async def test_the_application_answers_after_what_waits() -> None:
    desk = Desk(durability=Deferred())
    async with served(desk) as at:
        reader, writer = await at.connect()
        writer.write(asked())
        await waiting(desk, 1)
        writer.write(b"GET /other HTTP/1.1\r\nHost: zt\r\n\r\n")
        await asyncio.sleep(0.05)
        desk.durability.settle(True)  # noqa: FBT003
        bodies = [(await response(reader))[2] for _ in range(2)]
        assert b"decisionId" in bodies[0]
        assert b"from the application" in bodies[1]
        writer.close()


async def test_who_left_is_not_answered() -> None:
    desk = Desk(durability=Deferred())
    async with served(desk) as at:
        _, writer = await at.connect()
        writer.write(asked())
        await waiting(desk, 1)
        writer.transport.abort()
        await asyncio.sleep(0.05)
        desk.durability.settle(True)  # noqa: FBT003
        ((status, _),) = await exchange_settled(at, desk)
    assert status == 200


async def exchange_settled(at: Served, desk: Desk) -> list[tuple[int, bytes]]:
    task = asyncio.create_task(exchange(at, asked()))
    await waiting(desk, 1)
    desk.durability.settle(True)  # noqa: FBT003
    return await task


# --- Connections that misbehave -------------------------------------------------------------------


@pytest.mark.parametrize("begun", [b"POST /v1/evaluate HTTP/1.1\r\nHost: zt\r\n", b"GET /oth", b""])
async def test_who_never_finishes_is_closed_and_others_are_served(desk: Desk, begun: bytes) -> None:
    async with served(desk) as at:
        reader, writer = await at.connect()
        writer.write(begun)
        ((status, _),) = await exchange(at, asked())
        assert status == 200
        await asyncio.sleep(0.02)
        later = asyncio.get_running_loop().time()
        sweep(at.server.server_state.connections, later + fast.REQUEST_PATIENCE - 1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.05)
        sweep(at.server.server_state.connections, later + fast.IDLE_PATIENCE + 1)
        last = await asyncio.wait_for(reader.read(), 5)
        assert (b"408 Request Timeout" in last) == begun.startswith(b"POST")
        writer.close()


async def test_who_drips_is_closed_although_data_keeps_coming(desk: Desk) -> None:
    async with served(desk) as at:
        reader, writer = await at.connect()
        began = asyncio.get_running_loop().time()
        for byte in asked()[:40]:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.001)
        (connection,) = at.server.server_state.connections
        assert isinstance(connection, Front)
        assert connection.active > began + 0.03
        sweep([connection], began + fast.REQUEST_PATIENCE + 0.02)
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()


async def test_who_does_not_read_is_not_served_without_end(desk: Desk) -> None:
    async with served(desk) as at:
        reader, writer = await at.connect()
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < 200_000:
                writer.write(asked() * 100)
                sent += 100
                await asyncio.wait_for(writer.drain(), 0.5)
        assert len(desk.outcomes) < sent, "the rest waits in the sockets"
        (connection,) = at.server.server_state.connections
        assert connection.transport.get_write_buffer_size() < 1 << 20
        for _ in range(sent):
            assert (await response(reader))[0] == 200
        writer.close()


@given(st.integers(1, 2**60 - 1), st.integers(1, 2**62 - 1))
def test_ids_as_text(writer: int, sequence: int) -> None:
    text = id_prefix(writer) + id_rest(sequence).decode()
    assert text == str(record_id(writer, sequence))


def test_verdicts_have_the_names_of_the_specification() -> None:
    assert [*Verdict] == ["ALLOW", "DENY"]
