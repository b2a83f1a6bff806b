"""Steady traffic to one place: ever new connections, and one that is kept; who fails, and when."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from typing import Any

from lab.services.dialing import (
    SILENT,
    CallError,
    Connection,
    Json,
    ask_http,
    ask_line,
    call,
    opened,
)

Say = Callable[[Json], None]

_INTERVAL, _PATIENCE = 0.2, 5.0


class Steady:
    """What ``mode: steady`` asks for; ``end`` may be set to end it early."""

    def __init__(self, asked: Mapping[str, Any], say: Say) -> None:
        self._asked = {**asked, "mode": asked.get("speaks", "http")}
        self._say = say
        self._interval = float(asked.get("interval", _INTERVAL))
        self._patience = float(asked.get("timeout", _PATIENCE))
        self.end = asyncio.Event()

    async def run(self) -> None:
        """Go on for so many seconds (``seconds``), or until ``end``; the sums come last."""
        new, kept = _Side("new", self._say), _Side("kept", self._say)
        sides = asyncio.gather(self._new(new), self._kept(kept), self._tell(new, kept))
        try:
            async with asyncio.timeout(self._asked.get("seconds")):
                await self.end.wait()
        except TimeoutError:
            self.end.set()
        await sides
        self._say(_told("end", new, kept))

    async def _tell(self, new: _Side, kept: _Side) -> None:
        """The sums every so often (``sums``, in seconds), for whoever outlives this process."""
        while pause := self._asked.get("sums"):
            with suppress(TimeoutError):
                async with asyncio.timeout(float(pause)):
                    await self.end.wait()
            if self.end.is_set():
                return
            self._say(_told("sums", new, kept))

    async def _new(self, side: _Side) -> None:
        """A connection for each interval, as long as the last takes."""
        async for _ in self._ticks():
            result = await call(self._asked)
            side.note(result["error"], result["seconds"], result.get("detail", ""))

    async def _kept(self, side: _Side) -> None:
        """A question for each interval, on one connection; where that fails, on another."""
        connection: Connection | None = None
        async for _ in self._ticks():
            began, error, detail = time.monotonic(), None, ""
            try:
                async with asyncio.timeout(self._patience):
                    if connection is None:
                        connection = await opened(self._asked, {})
                        side.opened += 1
                    await self._ask(connection)
            except TimeoutError:
                error = SILENT
            except CallError as failed:
                error, detail = failed.how, str(failed)
            if error and connection:
                connection.close()
                connection = None
            side.note(error, time.monotonic() - began, detail)
        if connection:
            connection.close()

    async def _ask(self, connection: Connection) -> None:
        ask = ask_http if self._asked["mode"] == "http" else ask_line
        await ask(connection, self._asked)

    async def _ticks(self) -> AsyncIterator[None]:
        following = time.monotonic()
        while not self.end.is_set():
            yield
            following = max(following + self._interval, time.monotonic())
            with suppress(TimeoutError):
                async with asyncio.timeout(following - time.monotonic()):
                    await self.end.wait()


class _Side:
    """The attempts of one kind: told when they begin to fail and when they are well again."""

    def __init__(self, name: str, say: Say) -> None:
        self._name, self._say = name, say
        self._tried = self._failed = self.opened = 0
        self._well: bool | None = None
        self._seconds: list[float] = []

    def note(self, error: str | None, seconds: float, detail: str) -> None:
        """Count an attempt."""
        self._tried += 1
        if error is None:
            self._seconds.append(seconds)
        else:
            self._failed += 1
            self._tell("failed", seconds, error=error, detail=detail)
        if error is None and self._well is not True:
            self._tell("well", seconds)
        self._well = error is None

    def _tell(self, event: str, seconds: float, **more: str) -> None:
        at = time.time()
        self._say({"event": event, "side": self._name, "at": at, "seconds": seconds, **more})

    def sums(self) -> Json:
        """Tried, failed, connections opened, and seconds of those that were answered."""
        ordered: list[float | None] = [*sorted(self._seconds)] or [None]
        last = len(ordered) - 1
        figures = {f"p{part}": ordered[last * part // 100] for part in (50, 99, 100)}
        return {"tried": self._tried, "failed": self._failed, "opened": self.opened, **figures}


def _told(event: str, new: _Side, kept: _Side) -> Json:
    return {"event": event, "at": time.time(), "new": new.sums(), "kept": kept.sums()}
