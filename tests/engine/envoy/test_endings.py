"""How a connection ends: ours, the peer's, or by patience."""

import asyncio
import time
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import cast

import pytest
from envoy.service.auth.v3.external_auth_pb2_grpc import AuthorizationStub

from engine.envoy import http2
from engine.envoy.calls import ACCESS_LOGS, framed
from engine.envoy.service import Limits
from engine.tls import Peer
from tests.engine.envoy import raw
from tests.engine.envoy.proxy import client_context
from tests.engine.envoy.raw import (
    DATA,
    GREETING,
    MESSAGE,
    PING,
    PREFACE,
    SETTINGS,
    Client,
    asked,
    call,
    client,
    connected,
    frame,
)
from tests.engine.samples import DB, ENGINE, Authority, Desk, eventually
from tests.engine.sidecar import (
    ALLOWED,
    Serve,
    about,
    channel,
    check,
    evaluator,
    question,
)

pytestmark = pytest.mark.anyio


# --- The end --------------------------------------------------------------------------------------


async def test_what_is_in_flight_is_answered_before_the_end(desk: Desk) -> None:
    desk.durability.immediate = False
    async with AsyncExitStack() as stack:
        target = await stack.enter_async_context(evaluator(desk))
        async with client(target) as peer:
            log = await peer.open(call(ACCESS_LOGS), end=False)
            stream = await peer.open(call(), MESSAGE)
            await eventually(lambda: len(desk.durability.waiting) == 1)
            settle = partial(desk.durability.settle, safe=True)
            asyncio.get_running_loop().call_later(0.3, settle)
            stopping = asyncio.create_task(stack.aclose())
            assert (await peer.answer(stream))["grpc-status"] == "0"
            assert (await peer.answer(log))["grpc-status"] == "14"
            while await peer.read():
                pass
            assert peer.goaways == [0, 0]
            await stopping
        with pytest.raises(OSError, match="refused"):
            async with client(target):
                pass


async def test_who_asks_all_the_time_is_left_in_the_end(
    desk: Desk,
    impatient: Serve,
    monkeypatch: pytest.MonkeyPatch,
    authority: Authority,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr("engine.envoy.connection.peer_of", lambda _: Peer(DB, 0))
    authority.write(tmp_path / "svid", ENGINE)
    context = client_context(tmp_path, authority, DB)
    context.set_alpn_protocols(["h2"])
    desk.durability.immediate = False
    async with evaluator(desk, tmp_path / "svid", impatient) as target:
        host, _, port = target.partition(":")
        peer = Client(raw.Peer(*await asyncio.open_connection(host, int(port), ssl=context)))
        await peer.open(call(), MESSAGE)
        async with asyncio.timeout(5):
            while await peer.read():
                pass
        peer.peer.writer.close()
        assert peer.goaways == [0, 0]
        assert peer.answers == {}


async def test_a_peer_is_left_when_its_certificate_ends(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, authority: Authority, tmp_path: Path
) -> None:
    """Its Envoy has another one by then, and comes back with it."""
    monkeypatch.setattr("engine.envoy.http2.RETRY", 0.05)
    monkeypatch.setattr("engine.envoy.connection.peer_of", lambda _: Peer(DB, time.time() + 0.4))
    authority.write(tmp_path / "svid", ENGINE)
    async with (
        evaluator(desk, tmp_path / "svid") as target,
        channel(target, authority, DB) as calls,
    ):
        ask = AuthorizationStub(calls).Check
        for _ in range(20):
            assert (await ask(question(), metadata=about())).status.code == ALLOWED
            await asyncio.sleep(0.05)


# --- Peers that are slow, or gone -----------------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Serve:
    monkeypatch.setattr("engine.envoy.http2.RETRY", 0.05)
    return partial(http2.serve, limits=Limits(settings=0.2, request=0.2, idle=0.4, write=0.4))


@pytest.mark.parametrize("said", [b"", PREFACE[:10], PREFACE, PREFACE + frame(SETTINGS)[:5]])
async def test_who_does_not_greet_is_not_waited_for(
    desk: Desk, impatient: Serve, said: bytes
) -> None:
    async with evaluator(desk, serve=impatient) as target, connected(target, greeted=False) as peer:
        await peer.say(said)
        await peer.ended()
        assert peer.closed


async def test_a_message_that_does_not_come_ends_its_stream(desk: Desk, impatient: Serve) -> None:
    async with evaluator(desk, serve=impatient) as target, client(target) as peer:
        streams = [
            await peer.open(call(), end=False),
            await peer.open(call(), MESSAGE[:100], end=False),
            await peer.open(call(ACCESS_LOGS), framed(bytes(9))[:6], end=False),
        ]
        open_log = await peer.open(call(ACCESS_LOGS), end=False)
        assert [(await peer.answer(stream))["grpc-status"] for stream in streams] == ["4"] * 3
        assert open_log not in peer.ended


async def test_an_idle_connection_is_left(desk: Desk, impatient: Serve) -> None:
    async with evaluator(desk, serve=impatient) as target, connected(target) as peer:
        await peer.say(asked(1))
        assert await peer.until(DATA) is not None
        assert await peer.ended() == 0
        assert peer.closed


async def test_who_reads_nothing_is_ended(desk: Desk, impatient: Serve) -> None:
    async with evaluator(desk, serve=impatient) as target, connected(target) as peer:
        cast("asyncio.Transport", peer.writer.transport).pause_reading()
        speaking = asyncio.create_task(
            peer.say(*(frame(PING, payload=bytes(8)) * 100 + asked(n) for n in range(1, 99999, 2)))
        )
        await asyncio.wait_for(speaking, 15)
        assert (await check(target, question())).status.code == ALLOWED


async def test_a_half_closed_connection_is_answered(desk: Desk) -> None:
    async with evaluator(desk) as target, connected(target) as peer:
        await peer.say(asked(1))
        peer.writer.write_eof()
        assert await peer.until(DATA, 1) is not None
        await peer.ended()
        assert peer.closed


async def test_who_goes_in_the_middle_disturbs_nobody(desk: Desk) -> None:
    async with evaluator(desk) as target:
        for end in range(1, len(GREETING + asked(1)), 97):
            async with connected(target, greeted=False) as peer:
                await peer.say((GREETING + asked(1))[:end])
                peer.writer.transport.abort()
        assert (await check(target, question())).status.code == ALLOWED


async def test_connections_are_bounded(desk: Desk) -> None:
    serve = partial(http2.serve, limits=Limits(connections=3))
    async with evaluator(desk, serve=serve) as target:
        async with connected(target) as first, connected(target) as second, connected(target):
            await first.say(asked(1))
            assert await first.until(DATA) is not None
            async with connected(target) as fourth:
                await fourth.ended()
                assert fourth.closed
            await second.say(asked(1))
            assert await second.until(DATA) is not None
        await eventually(lambda: True)
        assert (await check(target, question())).status.code == ALLOWED
