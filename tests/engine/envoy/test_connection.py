"""What a connection may do to the evaluator: end itself, or one of its streams, and no more."""

import asyncio
import struct

import pytest

from engine.envoy.calls import ACCESS_LOGS, MESSAGE_LIMIT, PREFIX, framed
from tests.engine.envoy.raw import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    GOAWAY,
    GREETING,
    HEADERS,
    MESSAGE,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PUSH,
    RST,
    SETTINGS,
    WINDOW,
    Pairs,
    asked,
    call,
    client,
    connected,
    frame,
    opened,
    setting,
    window,
)
from tests.engine.samples import Desk
from tests.engine.sidecar import (
    ALLOWED,
    check,
    evaluator,
    question,
)

pytestmark = pytest.mark.anyio

PROTOCOL, INTERNAL, FLOW, CLOSED, SIZE, COMPRESSION, CALM = 1, 2, 3, 5, 6, 9, 11


def headers(encoded: bytes) -> bytes:
    return frame(HEADERS, END_HEADERS, 1, encoded)


def resets(count: int) -> bytes:
    streams = range(1, 2 * count, 2)
    return b"".join(opened(one) + frame(RST, 0, one, struct.pack(">I", 8)) for one in streams)


# --- What ends a connection -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "code"),
    [
        pytest.param(b"GET / HTTP/1.1\r\nhost: evaluator\r\n\r\n", PROTOCOL, id="HTTP/1.1"),
        pytest.param(
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(40), PROTOCOL, id="TLS"
        ),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", PROTOCOL, id="half a preface"),
        pytest.param(PREFACE + frame(PING, payload=bytes(8)), PROTOCOL, id="no settings"),
        pytest.param(PREFACE + frame(SETTINGS, ACK), PROTOCOL, id="acknowledged at once"),
        pytest.param(
            GREETING + opened(1) + frame(DATA, 0, 1, bytes((1 << 14) + 1)), SIZE, id="long data"
        ),
        pytest.param(GREETING + b"\xff\xff\xff" + bytes(6), SIZE, id="longest frame"),
        pytest.param(GREETING + headers(b"\xff" * 9), COMPRESSION, id="hpack"),
        pytest.param(GREETING + headers(b"\x80"), COMPRESSION, id="index 0"),
        pytest.param(
            GREETING + headers(b"\x00\x7f\x80\x80\x80\x80\x80\x80\x01"),
            COMPRESSION,
            id="endless integer",
        ),
        pytest.param(GREETING + headers(b"\x3f\xe2\xff\x03"), COMPRESSION, id="table"),
        pytest.param(GREETING + opened(2), PROTOCOL, id="even stream"),
        pytest.param(GREETING + opened(0), PROTOCOL, id="headers of stream 0"),
        pytest.param(GREETING + frame(DATA, 0, 1, b"x"), PROTOCOL, id="data before headers"),
        pytest.param(GREETING + frame(DATA, 0, 0, b"x"), PROTOCOL, id="data of stream 0"),
        pytest.param(
            GREETING + opened(1) + frame(DATA, PADDED, 1, b"\x08abc"), PROTOCOL, id="padding"
        ),
        pytest.param(GREETING + window(0), PROTOCOL, id="window of nothing"),
        pytest.param(GREETING + window((1 << 31) - 1) * 2, FLOW, id="window overflow"),
        pytest.param(GREETING + opened(1) + window(0, 1), PROTOCOL, id="a stream's of nothing"),
        pytest.param(GREETING + opened(1) + window(2**31 - 1, 1), FLOW, id="a stream's overflow"),
        pytest.param(GREETING + frame(WINDOW, payload=b"123"), SIZE, id="short window"),
        pytest.param(GREETING + window(1, 1), PROTOCOL, id="window of an idle stream"),
        pytest.param(GREETING + frame(SETTINGS, stream=1), PROTOCOL, id="settings of a stream"),
        pytest.param(GREETING + frame(SETTINGS, payload=b"1234567"), SIZE, id="odd settings"),
        pytest.param(GREETING + frame(SETTINGS, ACK, payload=bytes(6)), SIZE, id="loud ack"),
        pytest.param(GREETING + setting(4, 1 << 31), FLOW, id="impossible window"),
        pytest.param(GREETING + setting(5, 1), PROTOCOL, id="impossible frame size"),
        pytest.param(GREETING + setting(2, 2), PROTOCOL, id="neither push nor none"),
        pytest.param(
            GREETING + frame(SETTINGS, payload=struct.pack(">HI", 9999, 1) * 40),
            CALM,
            id="settings",
        ),
        pytest.param(GREETING + frame(PING, payload=b"1234567"), SIZE, id="short ping"),
        pytest.param(
            GREETING + frame(PING, stream=1, payload=bytes(8)), PROTOCOL, id="stream ping"
        ),
        pytest.param(GREETING + frame(RST, 0, 1, bytes(4)), PROTOCOL, id="reset of nothing"),
        pytest.param(GREETING + frame(RST, 0, 0, bytes(4)), PROTOCOL, id="reset of stream 0"),
        pytest.param(GREETING + opened(1) + frame(RST, 0, 1, b"123"), SIZE, id="short reset"),
        pytest.param(GREETING + frame(GOAWAY, stream=1, payload=bytes(8)), PROTOCOL, id="goaway"),
        pytest.param(GREETING + frame(PRIORITY, 0, 1, b"1234"), SIZE, id="short priority"),
        pytest.param(
            GREETING + opened(1) + frame(PUSH, END_HEADERS, 1, bytes(4)), PROTOCOL, id="push"
        ),
        pytest.param(GREETING + frame(CONTINUATION, 0, 1, b""), PROTOCOL, id="continuation"),
        pytest.param(
            GREETING + opened(1, flags=0) + frame(DATA, 0, 1, b"x"), PROTOCOL, id="data in headers"
        ),
        pytest.param(GREETING + opened(1, flags=0) + opened(3), PROTOCOL, id="headers in headers"),
        pytest.param(
            GREETING + opened(1, flags=0) + frame(CONTINUATION, 0, 1, b"") * 20,
            CALM,
            id="CONTINUED",
        ),
        pytest.param(
            GREETING + opened(1, [*call(), *((f"x-{n}", "x" * 100) for n in range(120))]),
            CALM,
            id="much of headers",
        ),
        pytest.param(
            GREETING + opened(1, [*call(), *((f"x-{n}", "") for n in range(150))]),
            CALM,
            id="many headers",
        ),
    ],
)
async def test_a_connection_out_of_line_is_ended(desk: Desk, said: bytes, code: int) -> None:
    async with evaluator(desk) as target, connected(target, greeted=False) as peer:
        speaking = asyncio.create_task(peer.say(said))
        answer = await check(target, question())
        assert answer.status.code == ALLOWED
        assert await peer.ended() == code
        assert peer.closed
        await speaking
        assert (await check(target, question())).status.code == ALLOWED
    assert len(desk.outcomes) == 2


@pytest.mark.parametrize(
    ("said", "code"),
    [
        pytest.param(GREETING + resets(4000), INTERNAL, id="rapid reset"),
        pytest.param(GREETING + frame(PING, payload=bytes(8)) * 6000, CALM, id="pings"),
        pytest.param(GREETING + frame(SETTINGS) * 6000, CALM, id="settings flood"),
        pytest.param(GREETING + opened(1) + frame(DATA, 0, 1) * 6000, CALM, id="empty data"),
        pytest.param(GREETING + window(1) * 6000, CALM, id="windows"),
        pytest.param(
            GREETING + opened(1) + frame(RST, 0, 1, bytes(4)) * 6000, CALM, id="resets of one"
        ),
    ],
)
async def test_a_flood_is_ended(desk: Desk, said: bytes, code: int) -> None:
    """Where more was under way, the system drops our last words with it."""
    async with evaluator(desk) as target, connected(target, greeted=False) as peer:
        speaking = asyncio.create_task(peer.say(said))
        assert (await check(target, question())).status.code == ALLOWED
        assert await peer.ended() in {code, None}
        assert peer.closed
        await speaking
        assert (await check(target, question())).status.code == ALLOWED


async def test_what_is_no_http_2_may_come_byte_by_byte(desk: Desk) -> None:
    async with evaluator(desk) as target, connected(target, greeted=False) as peer:
        await peer.say(*(bytes([byte]) for byte in GREETING + asked(1) + frame(GOAWAY, 0, 1)))
        await peer.ended()
    assert len(desk.outcomes) == 1


# --- What ends a stream ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(opened(1, [*call(), ("X-Upper", "x")]), id="upper case"),
        pytest.param(opened(1, [*call(), ("connection", "close")]), id="connection"),
        pytest.param(opened(1, [*call(), (":authority", "late")]), id="late pseudo-header"),
        pytest.param(opened(1, [pair for pair in call() if pair[0] != ":path"]), id="no path"),
        pytest.param(opened(1, [*call(), ("te", "gzip")]), id="te"),
        pytest.param(opened(1, [*call(content_length="7")]) + frame(DATA, 1, 1, b"x"), id="length"),
        pytest.param(opened(1, [*call(), ("x", "a\x00b")]), id="NUL"),
        pytest.param(frame(PRIORITY, 0, 1, bytes(5)), id="priority"),
        pytest.param(opened(1) + frame(RST, 0, 1, bytes(4)), id="reset"),
        pytest.param(asked(1) + frame(RST, 0, 1, bytes(4)), id="reset after all"),
    ],
)
async def test_a_stream_out_of_line_is_ended_alone(desk: Desk, said: bytes) -> None:
    async with evaluator(desk) as target, connected(target) as peer:
        await peer.say(said + asked(3))
        assert await peer.until(DATA, 3) is not None
        assert not peer.closed
        assert not [heard for heard in peer.heard if heard[0] == GOAWAY]


@pytest.mark.parametrize(
    ("pairs", "pieces", "status"),
    [
        pytest.param(call(pseudo_method="GET"), (), (":status", "405"), id="GET"),
        pytest.param(call(content_type="text/html"), (MESSAGE,), (":status", "415"), id="HTML"),
        pytest.param(call("/x.Y/Z"), (MESSAGE,), ("grpc-status", "12"), id="no such method"),
        pytest.param(call(), (b"\x01" + MESSAGE[1:],), ("grpc-status", "12"), id="compressed"),
        pytest.param(
            call(), (PREFIX.pack(0, MESSAGE_LIMIT + 1),), ("grpc-status", "8"), id="too long"
        ),
        pytest.param(call(), (), ("grpc-status", "13"), id="no message"),
        pytest.param(call(), (MESSAGE[:4],), ("grpc-status", "13"), id="half a prefix"),
        pytest.param(call(), (MESSAGE[:-1],), ("grpc-status", "13"), id="half a message"),
        pytest.param(call(), (MESSAGE, MESSAGE), ("grpc-status", "13"), id="two messages"),
        pytest.param(call(), (framed(b"\xff" * 9),), ("grpc-status", "3"), id="no Check"),
        pytest.param(
            call(ACCESS_LOGS, zt_destination=""), (MESSAGE,), ("grpc-status", "7"), id="others"
        ),
        pytest.param(
            call(ACCESS_LOGS), (framed(b"\xff" * 9),), ("grpc-status", "3"), id="no access log"
        ),
        pytest.param(call(ACCESS_LOGS), (MESSAGE[:9],), ("grpc-status", "13"), id="half a log"),
        pytest.param(call(), (MESSAGE[:3], MESSAGE[3:]), ("grpc-status", "0"), id="in two pieces"),
        pytest.param(call(), (framed(b""),), ("grpc-status", "0"), id="the empty message"),
        pytest.param(call(ACCESS_LOGS), (), ("grpc-status", "0"), id="nothing to report"),
    ],
)
async def test_a_call_out_of_line_is_told_so(
    desk: Desk, pairs: Pairs, pieces: tuple[bytes, ...], status: tuple[str, str]
) -> None:
    async with evaluator(desk) as target, client(target) as peer:
        answer = await peer.answer(await peer.open(pairs, *pieces))
        assert status in answer.items()
        good = await peer.answer(await peer.open(call(), MESSAGE))
        assert good["grpc-status"] == "0"


async def test_checks_of_many_ports_share_a_connection(desk: Desk) -> None:
    """What was remembered of others' headers changes nothing."""
    ports = [*range(5425, 5450), *range(5430, 5435)] * 3
    async with evaluator(desk) as target, client(target) as peer:
        for port in ports:
            await peer.answer(await peer.open(call(zt_port=str(port)), MESSAGE))
        nothing = await peer.answer(await peer.open(call(zt_port="5432")))
    assert nothing["grpc-status"] == "13"
    assert [outcome.destination_port for outcome in desk.outcomes] == ports
    allowed = {
        outcome.destination_port for outcome in desk.outcomes if outcome.rule == "core/rule-1"
    }
    assert allowed == {5432}


async def test_a_refused_call_need_not_be_ended_by_its_sender(desk: Desk) -> None:
    async with evaluator(desk) as target, client(target) as peer:
        for _ in range(3):
            stream = await peer.open(call("/x.Y/Z"), MESSAGE, end=False)
            assert (await peer.answer(stream))["grpc-status"] == "12"


async def test_more_streams_than_allowed_are_refused(desk: Desk) -> None:
    async with evaluator(desk) as target, connected(target) as peer:
        await peer.say(b"".join(map(opened, range(1, 2 * 1200, 2))))
        refused = [await peer.until(RST) for _ in range(200)]
        assert all(found is not None and found[3] == struct.pack(">I", 7) for found in refused)
        assert (await check(target, question())).status.code == ALLOWED


async def test_what_is_incomplete_is_bounded(desk: Desk) -> None:
    """Of all streams of a connection together."""
    start = PREFIX.pack(0, MESSAGE_LIMIT)
    async with evaluator(desk) as target, client(target) as peer:
        streams = []
        for _ in range(6):
            streams.append(await peer.open(call(), start + bytes(MESSAGE_LIMIT - 1), end=False))
            while peer.http.queued_body_size() and await peer.read():
                pass
        assert peer.answers[streams[-1]]["grpc-status"] == "8"
        assert streams[0] not in peer.answers
