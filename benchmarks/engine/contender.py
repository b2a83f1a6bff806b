"""What a contender is to the benchmark."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.engine.client import Form
from benchmarks.engine.processes import Launch
from benchmarks.engine.workload import Workload


@dataclass(frozen=True, slots=True)
class Server:
    """A server that decides over HTTP/1.1.

    ``write`` puts the rules into a folder, in the server's own form; ``launch`` tells how to start
    it there on a port; ``records`` counts the decisions that it recorded, once it has ended.
    ``most_rules`` is the size beyond which it isn't tried, for the reason ``why``.
    """

    name: str
    form: Form
    write: Callable[[Workload, Path], None]
    launch: Callable[[Path, int], Launch]
    records: Callable[[Path], int]
    most_rules: int = 100_000
    why: str = ""


def lines_with(path: Path, mark: bytes) -> int:
    """How many lines of a file hold a mark."""
    with path.open("rb") as file:
        return sum(mark in line for line in file)
