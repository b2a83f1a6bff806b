"""A real Envoy asks, over mutual TLS, with both of its filters."""

import asyncio
import socket
import ssl
from pathlib import Path

import pytest

from tests.engine.envoy.conftest import Evaluator
from tests.engine.envoy.proxy import client_context, echo, echoed, envoy
from tests.engine.samples import CAUTIOUS, DB, ENGINE, WEB, Authority, Desk, eventually

pytestmark = pytest.mark.anyio


async def get(port: int, context: ssl.SSLContext) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    writer.write(b"GET / HTTP/1.1\r\nhost: db\r\nconnection: close\r\n\r\n")
    async with asyncio.timeout(5):
        answer = await reader.read()
    writer.close()
    return answer.decode()


async def test_envoy_asks_for_each_connection_and_does_as_it_is_told(
    desk: Desk, evaluator: Evaluator, authority: Authority, tmp_path: Path
) -> None:
    authority.write(tmp_path / "svid", ENGINE)
    web = client_context(tmp_path, authority, WEB)
    cautious = client_context(tmp_path, authority, CAUTIOUS)
    async with (
        evaluator(desk, tmp_path / "svid") as target,
        echo() as service,
        envoy(tmp_path / "envoy", authority, target, service) as proxy,
    ):
        assert [await echoed(proxy.tcp, web) for _ in range(3)] == [b"x"] * 3
        assert await echoed(proxy.tcp, cautious) == b""
        granted, denied = await get(proxy.http, web), await get(proxy.http, cautious)
    assert granted.startswith("HTTP/1.1 200 OK\r\n")
    assert granted.endswith("hello")
    assert denied.startswith("HTTP/1.1 403 Forbidden\r\n")
    assert "\r\nx-zt-reason: no_rule\r\n" in denied
    assert denied.endswith("\r\n\r\nno_rule\n")
    assert [record.verdict for record in desk.outcomes] == ["ALLOW"] * 3 + ["DENY", "ALLOW", "DENY"]
    assert {record.destination_id for record in desk.outcomes} == {DB}
    assert {record.source_id for record in desk.outcomes} == {WEB, CAUTIOUS}


async def test_what_envoy_refuses_by_itself_is_reported(
    desk: Desk, evaluator: Evaluator, authority: Authority, tmp_path: Path
) -> None:
    authority.write(tmp_path / "svid", ENGINE)
    nobody = client_context(tmp_path, authority, None)
    stranger = Authority()
    stranger.bundle = authority.bundle
    async with (
        evaluator(desk, tmp_path / "svid") as target,
        echo() as service,
        envoy(tmp_path / "envoy", authority, target, service) as proxy,
    ):
        assert await echoed(proxy.tcp, nobody) == b""
        assert await echoed(proxy.tcp, client_context(tmp_path, stranger, WEB)) == b""
        await eventually(lambda: len(desk.outcomes) == 2)
    assert [(record.layer, record.reason) for record in desk.outcomes] == [
        ("handshake", "no_certificate"),
        ("handshake", "certificate_untrusted"),
    ]
    assert {record.source_id for record in desk.outcomes} == {None}


async def test_no_evaluator_no_connection(
    desk: Desk, evaluator: Evaluator, authority: Authority, tmp_path: Path
) -> None:
    """Neither an evaluator that is gone nor one whose trail is full lets anyone in."""
    authority.write(tmp_path / "svid", ENGINE)
    web = client_context(tmp_path, authority, WEB)
    async with echo() as service:
        async with (
            evaluator(desk, tmp_path / "svid") as target,
            envoy(tmp_path / "envoy", authority, target, service) as proxy,
        ):
            desk.spool.available = False
            assert await echoed(proxy.tcp, web) == b""
            assert (await get(proxy.http, web)).startswith("HTTP/1.1 403 Forbidden\r\n")
            desk.spool.available = True
            assert await echoed(proxy.tcp, web) == b"x"
        async with envoy(tmp_path / "alone", authority, target, service) as proxy:
            assert await echoed(proxy.tcp, web) == b""
            assert (await get(proxy.http, web)).startswith("HTTP/1.1 403 Forbidden\r\n")


async def test_another_evaluator_at_the_same_place_is_found_again(
    desk: Desk, evaluator: Evaluator, authority: Authority, tmp_path: Path
) -> None:
    """One that stops says so; Envoy then takes no call to it."""
    authority.write(tmp_path / "svid", ENGINE)
    web = client_context(tmp_path, authority, WEB)
    listening = socket.create_server(("127.0.0.1", 0))
    target = f"127.0.0.1:{listening.getsockname()[1]}"
    async with echo() as service, envoy(tmp_path / "envoy", authority, target, service) as proxy:
        for _ in range(3):
            async with evaluator(desk, tmp_path / "svid", listening=listening.dup()):
                assert await echoed(proxy.tcp, web) == b"x"
    listening.close()
    assert len(desk.outcomes) == 3
