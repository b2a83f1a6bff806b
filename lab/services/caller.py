"""The dialer: run in the container of a service, it calls others as the service would.

``python -S -m lab.services.caller`` reads JSON lines and writes JSON lines; calls are made at once,
and answered as they end, each with the ``id`` of its question:

    {"id": 1, "mode": "http", "host": "iam", "port": 8000, "path": "/", "timeout": 5}
    {"id": 1, "ok": true, "answer": {"status": 200, "body": ...}, "error": null, "seconds": 0.004,
     "connected": 0.0002, "each": [0.0038], "peer": "127.66.3.4:8000"}

- ``mode``: ``http`` (default; ``path``, ``count``), ``line`` (``send``, ``count``, ``greeted``
  where the server speaks first), ``raw`` (``send`` or ``sendBase64`` if anything; the answer is
  the first bytes as Latin-1), ``connect``, ``udp``, ``steady``.
- ``timeout``: seconds for all of it. ``source``: the address to call from.
- ``tls``: the files ``certificate``, ``key``, ``authorities``, or the same as text
  (``certificatePem``, ...), ``serverName``, ``alpn``, ``version`` (``1.2``, else the newest there
  is); all may be left out. The answer then has ``certificate``, the URIs of the server's, where
  authorities were given.
- ``error``: ``null``, or ``name`` (no such host), ``refused``, ``unreachable`` (no answer to the
  first packet), ``reset``, ``closed``, ``silent``, ``tls``, ``wrong`` (another protocol), ``asked``
  (the question itself); ``detail`` says more.

``steady`` (``speaks``: ``http`` or ``line``, ``interval``, ``seconds``) goes on until its seconds
are over or ``{"stop": <id>}`` comes. It says each failure at once, and when it was first well and
well again: ``{"id", "event": "failed" | "well", "side": "new" | "kept", "at", "seconds",
"error"}``, ``at`` being the system's time; at the end, ``{"id", "event": "end", "new": {...},
"kept": {...}}`` with ``tried``, ``failed``, ``opened`` (kept connections), and ``p50``, ``p99``,
``p100``; the same as event ``sums`` every ``sums`` seconds, if that is asked for.

``--until-answered HOST:PORT`` is the Job: it asks a line until it is answered, and ends.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from lab.services.dialing import Json, call
from lab.services.steady import Steady

_LONGEST_LINE = 1 << 22
_NAMES_AT_ONCE = 64
_JOB_SECONDS, _JOB_PAUSE = 240.0, 0.5


class Caller:
    """Answers questions as they come."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._steady: dict[Any, Steady] = {}

    async def run(self) -> None:
        """Until the input ends; what is under way then is ended as well."""
        async for line in _lines():
            try:
                self._begin(json.loads(line))
            except (AttributeError, ValueError) as error:
                _say({"id": None, "ok": False, "error": "asked", "detail": repr(error)})
        for steady in self._steady.values():
            steady.end.set()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _begin(self, asked: Json) -> None:
        if "stop" in asked:
            if found := self._steady.get(asked["stop"]):
                found.end.set()
            return
        work = self._keep_on(asked) if asked.get("mode") == "steady" else self._answer(asked)
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, asked: Json) -> None:
        try:
            _say({"id": asked.get("id"), **await call(asked)})
        except (KeyError, TypeError, ValueError, OSError) as error:
            _say({"id": asked.get("id"), "ok": False, "error": "asked", "detail": repr(error)})

    async def _keep_on(self, asked: Json) -> None:
        steady = Steady(asked, lambda event: _say({"id": asked.get("id"), **event}))
        self._steady[asked.get("id")] = steady
        try:
            await steady.run()
        except (KeyError, TypeError, ValueError, OSError) as error:
            _say({"id": asked.get("id"), "ok": False, "error": "asked", "detail": repr(error)})
        finally:
            del self._steady[asked.get("id")]


def _say(line: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


async def _lines() -> AsyncIterator[bytes]:
    reader = asyncio.StreamReader(limit=_LONGEST_LINE)
    loop = asyncio.get_running_loop()
    # Each name that is looked up takes a thread, for seconds where DNS is away.
    loop.set_default_executor(ThreadPoolExecutor(_NAMES_AT_ONCE))
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        if line.strip():
            yield line


async def until_answered(place: str) -> bool:
    """Ask a server's line protocol again and again; whether it answered in the end."""
    host, _, port = place.rpartition(":")
    deadline = time.monotonic() + _JOB_SECONDS
    while time.monotonic() < deadline:
        result = await call({"mode": "line", "host": host, "port": int(port)})
        _say(result)
        if result["ok"]:
            return True
        await asyncio.sleep(_JOB_PAUSE)
    return False


def main(arguments: list[str]) -> int:
    """Run the dialer, or the Job."""
    if arguments[:1] == ["--until-answered"]:
        return 0 if asyncio.run(until_answered(arguments[1])) else 1
    asyncio.run(Caller().run())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
