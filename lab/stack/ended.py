"""Ends what Pulumi's server of inline programs leaves behind of a program that failed.

It closes the program's event loop, but not if a task fails once more while it is being cancelled:
loop, sockets and threads then stay until somebody else's collector finds them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager

from pulumi import automation

# The server closes a loop itself in that time, where it does.
_PATIENCE, _PAUSE = 1.0, 0.02


@contextmanager
def ended(stack: automation.Stack) -> Iterator[None]:
    """Nothing of a program that ran in this block runs after it."""
    run = stack.workspace.program
    loops: list[asyncio.AbstractEventLoop] = []

    def program() -> Awaitable[None] | None:
        loops.append(asyncio.get_running_loop())
        return run() if run is not None else None

    stack.workspace.program = program
    try:
        yield
    finally:
        stack.workspace.program = run
        for loop in loops:
            close(loop)


def close(loop: asyncio.AbstractEventLoop) -> None:
    """Close a loop that nobody else closes; one that still runs is left alone."""
    deadline = time.monotonic() + _PATIENCE
    while not loop.is_closed() and time.monotonic() < deadline:
        time.sleep(_PAUSE)
    if loop.is_closed() or loop.is_running():
        return
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    loop.run_until_complete(_all(tasks))
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


async def _all(tasks: set[asyncio.Task[object]]) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)
