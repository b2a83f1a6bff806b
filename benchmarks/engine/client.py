"""HTTP/1.1 requests to a server: to compare answers, and to load it."""

from __future__ import annotations

import http.client
import json
import struct
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.engine.processes import CLIENT_CORE, ServerError, on_core
from benchmarks.engine.workload import Ask
from lab.tools.build import tool

_OK = 200


@dataclass(frozen=True, slots=True)
class Form:
    """How a server is asked, and what its answers mean.

    ``rule`` is the rule that an answer names, or ``ALLOWED`` where the server names none; ``mark``
    stands in the answers that allow and in no other.
    """

    path: str
    body: Callable[[Ask], dict[str, Any]]
    rule: Callable[[Any], str]
    mark: str

    def request(self, ask: Ask) -> bytes:
        """A whole HTTP/1.1 request."""
        body = json.dumps(self.body(ask), separators=(",", ":")).encode()
        head = (
            f"POST {self.path} HTTP/1.1\r\nhost: 127.0.0.1\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


ALLOWED = "allowed"


@dataclass(frozen=True, slots=True)
class Load:
    """What a load run measured; latencies in microseconds.

    ``marked`` is how many answers allowed, ``last`` the number of the request that would be next,
    ``busy`` the share of its core that the load program used.
    """

    connections: int
    seconds: float
    answers: int
    marked: int
    refused: int
    last: int
    per_second: float
    mean_us: float
    p50_us: float
    p99_us: float
    p999_us: float
    max_us: float
    busy: float

    @property
    def under_way(self) -> float:
        """Requests under way by Little's law: the number of connections, if the figures agree."""
        return self.per_second * self.mean_us / 1e6


def disagreements(form: Form, port: int, asks: Iterable[Ask]) -> list[str]:
    """Ask one by one; what was answered otherwise than expected."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    found = []
    for ask in asks:
        connection.request(
            "POST", form.path, json.dumps(form.body(ask)), {"content-type": "application/json"}
        )
        answer = connection.getresponse()
        content = answer.read()
        if answer.status != _OK:
            found.append(f"{ask}: {answer.status} {content.decode()}")
            continue
        rule = form.rule(json.loads(content))
        if rule not in ((ask.rule, ALLOWED) if ask.allowed else (ask.rule,)):
            found.append(f"{ask}: {rule}")
        if ask.allowed is not (form.mark.encode() in content):
            found.append(f"{ask}: the answer is marked wrongly: {content.decode()}")
    connection.close()
    return found


def write_requests(form: Form, asks: Iterable[Ask], path: Path) -> None:
    """The file that the load program reads."""
    with path.open("wb") as file:
        for ask in asks:
            request = form.request(ask)
            file.write(struct.pack("<I", len(request)) + request)


@dataclass(frozen=True, slots=True)
class Burst:
    """A load run to make; ``first`` is the number of the request that it starts with."""

    connections: int
    seconds: float
    first: int = 0


def load(form: Form, port: int, requests: Path, burst: Burst) -> Load:
    """Load a server from the other core.

    Raises:
        ServerError: if it does not answer all that it is asked.
    """
    command = (
        *on_core(CLIENT_CORE),
        *(str(tool("load")), "-address", f"127.0.0.1:{port}", "-requests", str(requests)),
        *("-connections", str(burst.connections), "-seconds", str(burst.seconds)),
        *("-marker", form.mark, "-first", str(burst.first)),
    )
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - ours
    if done.returncode != 0:
        raise ServerError(f"failed under load: {done.stderr.strip()}")
    return Load(burst.connections, **json.loads(done.stdout))
