"""An evaluator among several dies: no connection is refused for that."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.engine.envoy.conftest import Evaluator
from tests.engine.envoy.proxy import Proxy, client_context, echo, echoed, envoy
from tests.engine.envoy.relay import Relay, relay
from tests.engine.samples import ENGINE, WEB, Authority, Desk, eventually
from zt.compile.envoy.resources import ASKED_AGAIN, DIAL_PATIENCE

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def relayed(
    desk: Desk, evaluator: Evaluator, authority: Authority, folder: Path
) -> AsyncIterator[tuple[Relay, Proxy]]:
    """An Envoy before a service, which reaches the evaluator by a relay."""
    authority.write(folder / "svid", ENGINE)
    async with (
        evaluator(desk, folder / "svid") as target,
        relay(target) as before,
        echo() as service,
        envoy(folder / "envoy", authority, f"127.0.0.1:{before.port}", service) as proxy,
    ):
        yield before, proxy


async def test_a_question_that_meets_a_dead_evaluator_is_asked_again(
    desk: Desk, evaluator: Evaluator, authority: Authority, tmp_path: Path
) -> None:
    web = client_context(tmp_path, authority, WEB)
    async with relayed(desk, evaluator, authority, tmp_path) as (before, proxy):
        before.dead = ASKED_AGAIN
        assert await echoed(proxy.tcp, web) == b"x"
        for _ in range(3):
            before.cut()
            before.dead = 1
            assert await echoed(proxy.tcp, web) == b"x"
    assert [record.verdict for record in desk.outcomes] == ["ALLOW"] * 4


async def test_all_that_wait_for_an_evaluator_that_does_not_answer_ask_another(
    desk: Desk, evaluator: Evaluator, authority: Authority, tmp_path: Path
) -> None:
    web = client_context(tmp_path, authority, WEB)
    async with relayed(desk, evaluator, authority, tmp_path) as (before, proxy):
        before.silent = True
        asked = [asyncio.create_task(echoed(proxy.tcp, web)) for _ in range(30)]
        await asyncio.sleep(float(DIAL_PATIENCE.removesuffix("s")) / 2)
        before.silent = False  # for connections to come
        assert await asyncio.gather(*asked) == [b"x"] * 30
    assert [record.verdict for record in desk.outcomes] == ["ALLOW"] * 30


async def test_a_question_that_is_answered_slowly_is_asked_once(
    desk: Desk, evaluator: Evaluator, authority: Authority, tmp_path: Path
) -> None:
    web = client_context(tmp_path, authority, WEB)
    async with relayed(desk, evaluator, authority, tmp_path) as (before, proxy):
        assert await echoed(proxy.tcp, web) == b"x"
        before.slow = 0.6  # each way
        assert await echoed(proxy.tcp, web) == b"x"
        await asyncio.sleep(1)
    assert len(desk.outcomes) == 2


async def test_an_evaluator_that_falls_silent_is_given_up(
    desk: Desk, evaluator: Evaluator, authority: Authority, tmp_path: Path
) -> None:
    """As one does whose node died: nothing says that its connections have ended."""
    web = client_context(tmp_path, authority, WEB)
    async with relayed(desk, evaluator, authority, tmp_path) as (before, proxy):
        assert await echoed(proxy.tcp, web) == b"x"
        before.silent = True
        asked = [asyncio.create_task(echoed(proxy.tcp, web)) for _ in range(5)]
        await asyncio.sleep(0.5)
        before.silent = False  # for connections to come
        assert await asyncio.gather(*asked) == [b"x"] * 5
    # None of the silent one's, which has been told nothing.
    assert [record.verdict for record in desk.outcomes] == ["ALLOW"] * 6


@pytest.mark.parametrize("how", ["dead", "silent"])
async def test_a_refusal_is_reported_also_if_no_evaluator_takes_it_at_once(
    desk: Desk, evaluator: Evaluator, authority: Authority, tmp_path: Path, how: str
) -> None:
    """Each thread of Envoy's connects with its first refusal, all at once where many refuse."""
    nobody = client_context(tmp_path, authority, None)
    async with relayed(desk, evaluator, authority, tmp_path) as (before, proxy):
        before.dead = 5 if how == "dead" else 0
        before.silent = how == "silent"
        for _ in range(3):
            assert await echoed(proxy.tcp, nobody) == b""
            await asyncio.sleep(0.2)
        before.silent = False
        await eventually(lambda: len(desk.outcomes) >= 3)
    assert [record.layer for record in desk.outcomes] == ["handshake"] * 3
