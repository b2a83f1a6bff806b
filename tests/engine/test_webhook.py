"""The admission webhook's port: who may ask, how much, and for how long."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from engine import webhook
from engine.serving import serving
from engine.tls import SvidFiles
from engine.webhook import MOST_BYTES, Patient, close_idle, create_webhook
from tests.engine.samples import ENGINE, Authority, eventually

pytestmark = pytest.mark.anyio

Review = Callable[[bytes], bytes]
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def answering(review: Review, folder: Path, authority: Authority) -> AsyncIterator[int]:
    """The webhook, as its process serves it; its port."""
    authority.write(folder / "svid", ENGINE)
    tls = SvidFiles(folder / "svid").server_context(["http/1.1"], mutual=False)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        serve = serving(create_webhook(review), listening, Patient, tls=tls, sweep=close_idle)
        async with serve:
            yield listening.getsockname()[1]


def echo(body: bytes) -> bytes:
    return b"[" + body + b"]"


def client(port: int, authority: Authority) -> httpx.AsyncClient:
    """As an API server is one: it knows our CA, and has no certificate."""
    url = f"https://127.0.0.1:{port}"
    return httpx.AsyncClient(base_url=url, verify=authority.client(None), timeout=30)


async def open_to(port: int, authority: Authority) -> Streams:
    return await asyncio.open_connection("127.0.0.1", port, ssl=authority.client(None))


async def test_who_has_no_certificate_is_answered(authority: Authority, tmp_path: Path) -> None:
    async with answering(echo, tmp_path, authority) as port, client(port, authority) as asking:
        answer = await asking.post("/inject", content=b"{}")
        assert (answer.status_code, answer.content) == (200, b"[{}]")
        assert answer.headers["content-type"] == "application/json"
        assert (await asking.get("/inject")).status_code == 405
        assert (await asking.post("/v1/evaluate", content=b"{}")).status_code == 404


async def test_without_tls_nobody_is(authority: Authority, tmp_path: Path) -> None:
    async with answering(echo, tmp_path, authority) as port:
        with pytest.raises(httpx.TransportError):
            async with httpx.AsyncClient() as asking:
                await asking.post(f"http://127.0.0.1:{port}/inject", content=b"{}")


async def test_its_certificate_is_followed(authority: Authority, tmp_path: Path) -> None:
    async with answering(echo, tmp_path, authority) as port:
        renewed = Authority()
        renewed.write(tmp_path / "svid", ENGINE)
        async with client(port, renewed) as asking:
            assert (await asking.post("/inject", content=b"{}")).status_code == 200


@pytest.mark.parametrize("streamed", [False, True])
async def test_more_than_a_pod_can_be_is_refused(
    authority: Authority,
    tmp_path: Path,
    streamed: bool,  # noqa: FBT001 - a case
) -> None:
    reviewed: list[int] = []

    def review(body: bytes) -> bytes:
        reviewed.append(len(body))
        return b"{}"

    async def pieces(total: int) -> AsyncIterator[bytes]:
        for start in range(0, total, 1 << 16):
            yield b"x" * min(1 << 16, total - start)

    def content(total: int) -> bytes | AsyncIterator[bytes]:
        return pieces(total) if streamed else b"x" * total

    async with answering(review, tmp_path, authority) as port, client(port, authority) as asking:
        assert (await asking.post("/inject", content=content(MOST_BYTES))).status_code == 200
        assert (await asking.post("/inject", content=content(MOST_BYTES + 1))).status_code == 413
        assert reviewed == [MOST_BYTES]


async def test_what_is_no_review_is_the_askers_fault_and_a_failure_is_ours(
    authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def review(body: bytes) -> bytes:
        if body == b"malformed":
            raise ValueError("this is no AdmissionReview")
        raise RuntimeError(body.decode())

    async with answering(review, tmp_path, authority) as port, client(port, authority) as asking:
        malformed = await asking.post("/inject", content=b"malformed")
        assert (malformed.status_code, malformed.text) == (400, "this is no AdmissionReview")
        failed = await asking.post("/inject", content=b"secret")
        assert failed.status_code == 500
        assert "secret" not in failed.text
    assert "a pod could not be reviewed" in caplog.messages


async def test_slow_senders_are_cut_off_and_hold_up_nobody(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "REQUEST_PATIENCE", 0.5)
    async with answering(echo, tmp_path, authority) as port:
        senders = [await open_to(port, authority) for _ in range(20)]
        beginnings = [b"", b"POST /inj", b"POST /inject HTTP/1.1\r\nContent-Length: 9\r\n\r\nx"]
        for number, (_, writer) in enumerate(senders):
            writer.write(beginnings[number % 3])
            await writer.drain()
        async with client(port, authority) as asking, asyncio.timeout(0.5):
            assert (await asking.post("/inject", content=b"{}")).status_code == 200
        async with asyncio.timeout(10):
            for reader, writer in senders:
                await reader.read()
                writer.close()


async def test_a_drop_now_and_then_does_not_prolong_a_request(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "REQUEST_PATIENCE", 0.5)
    async with answering(echo, tmp_path, authority) as port, asyncio.timeout(10):
        reader, writer = await open_to(port, authority)
        for letter in b"POST /inject HTTP/1.1\r\nX: " + b"x" * 1000:
            if reader.at_eof():
                break
            writer.write(bytes([letter]))
            await asyncio.sleep(0.02)
        assert reader.at_eof()
        writer.close()


async def test_connections_that_rest_stay_and_those_too_many_are_closed(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "REQUEST_PATIENCE", 0.3)
    monkeypatch.setattr(webhook, "MOST_CONNECTIONS", 1)
    async with answering(echo, tmp_path, authority) as port, client(port, authority) as asking:
        for _ in range(2):
            assert (await asking.post("/inject", content=b"{}")).status_code == 200
            async with client(port, authority) as another:
                with pytest.raises(httpx.TransportError):
                    await another.post("/inject", content=b"{}")
            await asyncio.sleep(1.5)


async def test_reviews_run_beside_each_other_and_so_many_at_most(
    authority: Authority, tmp_path: Path
) -> None:
    together, most, gate = 0, 0, threading.Event()
    lock = threading.Lock()

    def review(_: bytes) -> bytes:
        nonlocal together, most
        with lock:
            together += 1
            most = max(most, together)
        gate.wait(10)
        with lock:
            together -= 1
        return b"{}"

    async with answering(review, tmp_path, authority) as port, client(port, authority) as asking:
        asked = [asyncio.create_task(asking.post("/inject", content=b"{}")) for _ in range(12)]
        await eventually(lambda: most == 4)
        gate.set()
        assert [answer.status_code for answer in await asyncio.gather(*asked)] == [200] * 12
        assert most == 4
