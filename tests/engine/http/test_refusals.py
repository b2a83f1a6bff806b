"""How the API's port refuses: in one form, early, and without waiting."""

import asyncio
import contextlib
import json
from time import perf_counter

import pytest

from engine.http import api as api_module
from engine.http import bodies
from engine.http.problems import MAX_BODY
from tests.engine.http.serving import (
    QUESTION,
    Served,
    ask,
    problem,
)

pytestmark = pytest.mark.anyio


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
