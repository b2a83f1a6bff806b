"""Starts programs that do what takes long, so that they hold up no decision."""

from __future__ import annotations

import asyncio
import os
import resource
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

# What a program may be told by the environment; it needs none of the evaluator's secrets.
_KEPT = ("PATH", "LANG", "TZ", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT")
_ROOT = Path(__file__).parents[2]
_NICENESS = 10
_MEMORY = 1 << 30
_MAX_LINE = 64 << 20


@asynccontextmanager
async def started(*arguments: str, folder: Path | None = None) -> AsyncIterator[Process]:
    """Python with these arguments, behind decisions in line for the processor; killed at the end.

    Its standard output and error are pipes, as is its input.
    """
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    program = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        *arguments,
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        cwd=folder,
        env=kept | {"PYTHONPATH": str(_ROOT)},
        limit=_MAX_LINE,
    )
    try:
        with suppress(ProcessLookupError):
            os.setpriority(os.PRIO_PROCESS, program.pid, _NICENESS)
            resource.prlimit(program.pid, resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        yield program
    finally:
        with suppress(ProcessLookupError):
            program.kill()
        await program.wait()
