"""What the folder of an evaluator's state tells at a scrape: the policy, the spool, the drainer."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

import orjson

from engine.audit.status import FILE
from engine.policy.status import Status, read_status

METRICS, POLICY, SPOOL = "metrics", "policy", "spool"
_PAGE = 4096
_SILENT = 10.0


@dataclass(frozen=True, slots=True)
class Drained:
    """What the drainer says of itself; times are in seconds since the epoch.

    ``reported`` is when it said so: it does every few seconds, or it hangs.
    """

    rows: int = 0
    last_commit: float = 0.0
    oldest: float | None = None
    lost: int = 0
    redated: int = 0
    failing: bool = False
    reported: float | None = None

    def waited(self, now: float) -> float:
        """For how long the oldest record has been waiting, or may have been."""
        since = now if self.oldest is None else self.oldest
        if self.reported is not None and now - self.reported > _SILENT:
            since = min(since, self.reported)
        return max(now - since, 0.0)


def status(folder: Path) -> Status:
    """The state of the policy; nothing in force where that can't be read."""
    try:
        return read_status(folder / POLICY)
    except (OSError, ValueError, TypeError, KeyError):
        return Status()


def drained(folder: Path) -> Drained:
    """What the drainer last said; nothing before it said anything."""
    try:
        path = folder / FILE
        said = orjson.loads(path.read_bytes())
        return Drained(
            rows=int(said.get("rows", 0)),
            last_commit=float(said.get("last_commit") or 0),
            oldest=None if said.get("oldest") is None else float(said["oldest"]),
            lost=int(said.get("lost", 0)),
            redated=int(said.get("redated", 0)),
            failing=said.get("error") is not None,
            reported=path.stat().st_mtime,
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
