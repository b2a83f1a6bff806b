"""Answers and reports on the streams of a connection: in windows, in turns, and held."""

import asyncio

import pytest
from envoy.service.accesslog.v3.als_pb2 import StreamAccessLogsMessage

from engine.envoy.calls import ACCESS_LOGS, framed
from engine.metrics.families import APPEND_FAILURES
from tests.engine.envoy.raw import (
    DATA,
    HEADERS,
    MESSAGE,
    PREFACE,
    asked,
    call,
    client,
    connected,
    setting,
    window,
)
from tests.engine.samples import Desk, eventually
from tests.engine.sidecar import (
    ALLOWED,
    check,
    counts,
    entry,
    evaluator,
    question,
)

pytestmark = pytest.mark.anyio
REFUSED = entry(reason="TLS_error:|268435581:SSL routines:OPENSSL_internal:HTTP_REQUEST")


# --- Flow control ---------------------------------------------------------------------------------


async def test_an_answer_waits_for_the_peers_window(desk: Desk) -> None:
    async with evaluator(desk) as target, connected(target, greeted=False) as peer:
        await peer.say(PREFACE + setting(4, 0) + asked(1))
        assert await peer.until(HEADERS, 1) is not None
        assert await peer.listen(0.1) is None
        await peer.say(window(5, 1))
        found = await peer.until(DATA, 1)
        assert found is not None
        assert len(found[3]) == 5
        await peer.say(window(1000, 1))
        assert await peer.until(HEADERS, 1) is not None


async def test_a_long_message_takes_many_windows(desk: Desk) -> None:
    request = question()
    request.attributes.request.http.body = "x" * 900_000
    async with evaluator(desk) as target:
        assert (await check(target, request)).status.code == ALLOWED


# --- Access logs ----------------------------------------------------------------------------------


async def test_a_sidecar_sends_no_more_than_waits(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While nothing can be recorded its stream may send one window; Checks go on beside it."""
    monkeypatch.setattr("engine.envoy.http2.RETRY", 0.05)
    desk.spool.available = False
    message = framed(StreamAccessLogsMessage(tcp_logs={"log_entry": [REFUSED]}).SerializeToString())
    count = 4 * (64 << 10) // len(message)
    async with evaluator(desk) as target, client(target) as peer:
        stream = await peer.open(call(ACCESS_LOGS), message * count, end=False)
        for _ in range(5):
            await peer.read_some()
            await asyncio.sleep(0.05)
        assert peer.http.queued_body_size() >= 2 * (64 << 10)
        good = await peer.answer(await peer.open(call(), MESSAGE))
        assert good["grpc-status"] == "0"
        assert desk.outcomes == []
        desk.spool.available = True
        peer.http.end_stream(stream)
        assert (await peer.answer(stream))["grpc-status"] == "0"
    assert len(desk.outcomes) == count


async def test_what_was_reported_is_recorded_after_its_connection_is_lost(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.envoy.http2.RETRY", 0.05)
    desk.spool.available = False
    message = framed(StreamAccessLogsMessage(tcp_logs={"log_entry": [REFUSED]}).SerializeToString())
    async with evaluator(desk) as target:
        async with client(target) as peer:
            await peer.open(call(ACCESS_LOGS), message * 3, end=False)
            await eventually(lambda: counts(desk)[(APPEND_FAILURES,)] > 0)
            peer.peer.writer.transport.abort()
        await asyncio.sleep(0.1)
        desk.spool.available = True
        await eventually(lambda: len(desk.outcomes) == 3)


async def test_many_entries_are_recorded_in_turns(desk: Desk) -> None:
    """A message of five thousand does not keep a Check waiting."""
    message = StreamAccessLogsMessage(tcp_logs={"log_entry": [REFUSED] * 5_000})
    async with evaluator(desk) as target, client(target) as peer:
        framed_message = framed(message.SerializeToString())
        stream = await peer.open(call(ACCESS_LOGS), framed_message)
        while peer.http.queued_body_size() and await peer.read():
            pass
        assert (await check(target, question())).status.code == ALLOWED
        checked = len(desk.outcomes)
        assert (await peer.answer(stream))["grpc-status"] == "0"
    assert len(desk.outcomes) == 5_001
    assert checked < 5_001


# --- Answers that are held ------------------------------------------------------------------------


async def test_answers_that_are_held_come_together(desk: Desk) -> None:
    desk.durability.immediate = False
    async with evaluator(desk) as target, client(target) as peer:
        streams = [await peer.open(call(), MESSAGE) for _ in range(5)]
        await eventually(lambda: len(desk.durability.waiting) == 5)
        assert peer.answers == {}
        desk.durability.settle(safe=True)
        assert {(await peer.answer(stream))["grpc-status"] for stream in streams} == {"0"}
    assert len(desk.outcomes) == 5


async def test_an_answer_that_nobody_waits_for_is_dropped(desk: Desk) -> None:
    desk.durability.immediate = False
    async with evaluator(desk) as target, client(target) as peer, client(target) as other:
        gone = await peer.open(call(), MESSAGE)
        kept = await peer.open(call(), MESSAGE)
        await other.open(call(), MESSAGE)
        await eventually(lambda: len(desk.durability.waiting) == 3)
        peer.http.reset_stream(gone)
        await peer.flush()
        other.peer.writer.transport.abort()
        await asyncio.sleep(0.05)
        desk.durability.settle(safe=True)
        assert (await peer.answer(kept))["grpc-status"] == "0"
        assert gone not in peer.answers
