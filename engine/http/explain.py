"""Why a connection is allowed, or not: ``zt explain`` on the policy in force, and the decision.

Nothing is recorded: a question about a connection is not a connection.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson

from engine.evaluate import Request, evaluate
from engine.http.parts import Parts
from engine.http.problems import Fault, Problem, Refused, invalid, timed_out
from engine.http.programs import started
from engine.http.questions import constant
from engine.policy.status import SOURCES
from zt.effective import EXTERNAL
from zt.spiffe import parse_pattern

Json = dict[str, Any]
_Key = tuple[str, str, str, int, str]

_PATIENCE = 10.0
_REMEMBERED = 256
_ANSWERED = (0, 1)
_NOTHING: Json = {"file": None, "line": None, "column": None, "planes": None, "hints": []}
_UNEXPLAINED = Problem(503, "unexplained", "No explanation can be made now")


@dataclass
class Explainer:
    """Explains, two questions at a time, and remembers what it said of the policy in force."""

    parts: Parts
    _remembered: OrderedDict[_Key, Json] = field(default_factory=OrderedDict)

    async def explain(self, source: str, destination: str, port: int) -> Json:
        """The decision and its explanation; nulls where only a table is in force.

        Raises:
            Refused: if an end is no identity, or it can't be explained now.
        """
        _require_identities(source=source, destination=destination)
        view = self.parts.decider.view
        answer = evaluate(view.snapshot, view.locations, Request(source, destination, port))
        asked = {"source": source, "destination": destination, "port": port}
        explanation = await self._explanation(source, destination, port)
        return asked | constant(answer) | (explanation or _NOTHING)

    async def _explanation(self, source: str, destination: str, port: int) -> Json | None:
        snapshot = self.parts.snapshot
        if snapshot.folder is None or not (snapshot.folder / SOURCES).is_dir():
            return None
        today = datetime.now(UTC).date().isoformat()
        key = snapshot.revision, source, destination, port, today
        found = self._remembered.get(key)
        if found is None:
            async with self.parts.explaining.taken():
                found = await _asked(self.parts, source, destination, port, today)
            self._remembered[key] = found
            if len(self._remembered) > _REMEMBERED:
                self._remembered.popitem(last=False)
        return found


async def _asked(parts: Parts, source: str, destination: str, port: int, today: str) -> Json:
    """What ``zt explain`` says.

    Raises:
        Refused: if it says nothing in time.
    """
    ends = f"--from={source}", f"--to={destination}", f"--port={port}", f"--today={today}"
    command = "-m", "zt", "explain", "--json", *ends, SOURCES
    try:
        async with (
            asyncio.timeout(_PATIENCE),
            started(*command, folder=parts.snapshot.folder) as program,
        ):
            output, _ = await program.communicate()
    except TimeoutError:
        raise Refused(timed_out(f"no explanation was found within {_PATIENCE:g} s")) from None
    except FileNotFoundError:
        # Another policy came into force, and its folder went.
        raise Refused(_UNEXPLAINED) from None
    return _read(program.returncode, output)


def _read(code: int | None, output: bytes) -> Json:
    try:
        found = orjson.loads(output) if code in _ANSWERED else None
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict) or "planes" not in found:
        raise Refused(_UNEXPLAINED)
    return {name: found[name] for name in _NOTHING}


def _require_identities(**ends: str) -> None:
    faults = [
        Fault(name, message, parameter=True)
        for name, text in ends.items()
        if (message := _objection(text))
    ]
    if faults:
        raise Refused(invalid(*faults))


def _objection(text: str) -> str:
    """What keeps a text from naming one party."""
    if text.startswith(EXTERNAL):
        return ""
    try:
        pattern = parse_pattern(text)
    except ValueError as error:
        return str(error)
    return "" if pattern.is_exact else f"{text!r} is a pattern: name one identity"
