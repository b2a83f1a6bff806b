"""What a program that failed leaves running in this process is ended."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from lab.stack.ended import ended


@pytest.fixture
def server() -> Iterator[ThreadPoolExecutor]:
    """The threads of Pulumi's server, in which programs run."""
    with ThreadPoolExecutor() as found:
        yield found


def stack_of(program: Any) -> Any:  # noqa: ANN401 - as much of a stack as is asked for
    return SimpleNamespace(workspace=SimpleNamespace(program=program))


async def call(stack: Any) -> None:  # noqa: ANN401
    """As the server calls a program, which may have to be awaited."""
    if (found := stack.workspace.program()) is not None:
        await found


def test_a_loop_is_closed_with_its_tasks_and_threads(server: ThreadPoolExecutor) -> None:
    outcome: list[str] = []
    threads: list[threading.Thread] = []

    async def late() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            outcome.append("cancelled")
            raise RuntimeError("once more") from None

    async def program() -> None:
        loop = asyncio.get_running_loop()
        threads.append(await loop.run_in_executor(None, threading.current_thread))
        stack.late = asyncio.ensure_future(late())
        await asyncio.sleep(0)

    stack = stack_of(program)
    loop = asyncio.new_event_loop()
    with ended(stack):
        server.submit(lambda: loop.run_until_complete(call(stack))).result()
        assert not loop.is_closed()
    assert loop.is_closed()
    assert outcome == ["cancelled"]
    assert isinstance(stack.late.exception(), RuntimeError)
    assert not threads[0].is_alive()
    assert stack.workspace.program is program


def test_a_program_that_ends_well_is_left_as_it_is(server: ThreadPoolExecutor) -> None:
    ran: list[str] = []
    stack = stack_of(lambda: ran.append("program"))
    with ended(stack):
        server.submit(lambda: asyncio.run(call(stack))).result()
    assert ran == ["program"]


def test_a_loop_that_still_runs_is_left_alone(server: ThreadPoolExecutor) -> None:
    goes_on, over = threading.Event(), threading.Event()

    async def program() -> None:
        goes_on.set()
        await asyncio.to_thread(over.wait)

    stack = stack_of(program)
    with ended(stack):
        running = server.submit(lambda: asyncio.run(call(stack)))
        goes_on.wait()
    assert running.running()
    over.set()
    running.result()


def test_the_program_is_its_own_again_after_a_failure() -> None:
    def program() -> None: ...

    stack = stack_of(program)
    with pytest.raises(ValueError, match="failed"), ended(stack):
        raise ValueError("failed")
    assert stack.workspace.program is program
