"""What the folder of an evaluator's state tells at a scrape: the policy, the spool, the drainer."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

import orjson

from engine.policy.status import Status, read_status

METRICS, POLICY, SPOOL, DRAINED = "metrics", "policy", "spool", "audit.json"
_PAGE = 4096


@dataclass(frozen=True, slots=True)
class Drained:
    """What the drainer says in ``audit.json``; times are in seconds since the epoch."""

    rows: int = 0
    last_commit: float = 0.0
    oldest: float | None = None


def status(folder: Path) -> Status:
    """The state of the policy; nothing in force where that can't be read."""
    try:
        return read_status(folder / POLICY)
    except (OSError, ValueError, TypeError, KeyError):
        return Status()


def drained(folder: Path) -> Drained:
    """What the drainer last said; nothing before it said anything."""
    try:
        said = orjson.loads((folder / DRAINED).read_bytes())
        oldest = said.get("oldest")
        return Drained(
            int(said.get("rows", 0)),
            float(said.get("last_commit") or 0),
            None if oldest is None else float(oldest),
        )
    except (OSError, ValueError, TypeError, AttributeError):
        return Drained()


def spool_bytes(folder: Path) -> int:
    """How much the spool's segments hold; a segment goes once all of it is in the database."""
    return sum(map(_used, (folder / SPOOL).glob("*/*.segment")))


def _used(segment: Path) -> int:
    """Bytes written to a segment, which has its full length from the start and ends in zeros.

    No page of records is all zeros, so that the first empty one is found by halving.
    """
    with contextlib.suppress(FileNotFoundError), segment.open("rb", buffering=0) as file:
        written, empty = 0, -(-file.seek(0, os.SEEK_END) // _PAGE)
        while written < empty:
            page = (written + empty) // 2
            if any(os.pread(file.fileno(), _PAGE, page * _PAGE)):
                written = page + 1
            else:
                empty = page
        last = os.pread(file.fileno(), _PAGE, max(written - 1, 0) * _PAGE)
        return max(written - 1, 0) * _PAGE + len(last.rstrip(b"\0"))
    return 0
