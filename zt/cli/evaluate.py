"""``zt evaluate``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import date
from typing import Any, BinaryIO

import click

from zt.cli.inputs import example, json_option, path_argument, policy_at, today_option
from zt.decide import DecisionTable, decide, decision_table
from zt.effective import EXTERNAL
from zt.model import Phase
from zt.values import MAX_PORT

_LONGEST_LINE = 1 << 16


class _BadLineError(ValueError):
    """A line that is no request, and why."""


@click.command("evaluate", epilog=example("zt evaluate < requests.jsonl"))
@json_option
@today_option
@path_argument
def command(path: str, today: date, *, as_json: bool) -> None:
    """Answer requests from standard input.

    By the policy at PATH (default: policies/). Each line is a JSON object with "source" and
    "destination" (SPIFFE IDs or external:NAME) and "port"; each gets one line of JSON. A line that
    is no request gets one with its number and an "error", and the exit code is 1; it is 0 where all
    were answered, allowed or denied.
    """
    table = decision_table(policy_at(path, as_json=as_json), today)
    bad = False
    for number, line in _lines(sys.stdin.buffer):
        try:
            answer = _answer(table, line)
        except _BadLineError as error:
            bad = True
            answer = {"line": number, "error": str(error)}
        click.echo(json.dumps(answer))
    if bad:
        click.get_current_context().exit(1)


def _lines(stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Numbered lines that are not blank; no line takes more memory than a request needs."""
    number = 0
    while line := stream.readline(_LONGEST_LINE):
        number += 1
        part = line
        while len(part) == _LONGEST_LINE and not part.endswith(b"\n"):
            part = stream.readline(_LONGEST_LINE)
        if line.strip():
            yield number, line


def _answer(table: DecisionTable, line: bytes) -> dict[str, Any]:
    request = _request(line)
    source, destination = _text(request, "source"), _text(request, "destination")
    port = request.get("port")
    if not isinstance(port, int) or isinstance(port, bool) or not 1 <= port <= MAX_PORT:
        raise _BadLineError(f"'port' should be a number from 1 to {MAX_PORT}")
    decision = decide(table, source, destination, port)
    return {
        "source": source,
        "destination": destination,
        "port": port,
        "verdict": decision.verdict,
        "rule": decision.rule,
        "reason": decision.reason,
        "phase": _phase(table, source, destination),
    }


def _request(line: bytes) -> dict[str, Any]:
    if len(line) == _LONGEST_LINE:
        raise _BadLineError(f"the line is longer than {_LONGEST_LINE - 1} bytes")
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        raise _BadLineError("not a line of JSON") from None
    if not isinstance(request, dict):
        raise _BadLineError("not a JSON object with 'source', 'destination' and 'port'")
    return request


def _text(request: dict[str, Any], name: str) -> str:
    value = request.get(name)
    if not isinstance(value, str):
        raise _BadLineError(f"{name!r} should be a SPIFFE ID or external:NAME")
    return value


def _phase(table: DecisionTable, source: str, destination: str) -> Phase:
    """The phase of the end that enforces it; what nobody declares is refused in every phase."""
    enforcer = source if destination.startswith(EXTERNAL) else destination
    return table.phases.get(enforcer, Phase.ENFORCE)
