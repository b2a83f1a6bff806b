"""What stands before several evaluators, as kube-proxy does: a connection leads to one of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass
class Relay:
    """Leads to one evaluator; ``dead`` connections to come meet another, which has just died.

    While ``silent``, it falls silent on whatever passes, and stays so on those connections. What
    passes takes ``slow`` seconds.
    """

    target: str
    dead: int = 0
    silent: bool = False
    slow: float = 0.0
    port: int = 0
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    def cut(self) -> None:
        """The evaluator of all open connections dies."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def lead(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take a connection."""
        if self.dead:
            self.dead -= 1
            writer.transport.abort()
            return
        host, _, port = self.target.partition(":")
        there = await asyncio.open_connection(host, int(port))
        self._writers |= {writer, there[1]}
        for pair in ((reader, there[1]), (there[0], writer)):
            task = asyncio.create_task(self._pass_on(*pair))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        was_silent = False
        try:
            while piece := await reader.read(1 << 16):
                was_silent = was_silent or self.silent
                await asyncio.sleep(self.slow)
                if not was_silent:
                    writer.write(piece)
        except ConnectionError:
            pass
        writer.close()


@asynccontextmanager
async def relay(target: str) -> AsyncIterator[Relay]:
    """A relay to ``host:port`` on a port of loopback."""
    found = Relay(target)
    server = await asyncio.start_server(found.lead, "127.0.0.1", 0)
    async with server:
        found.port = server.sockets[0].getsockname()[1]
        yield found
        found.cut()
