"""What the builder leaves behind: which version is in force, and what it has to say."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import orjson

from engine.files import write_whole
from engine.policy.table import NO_REVISION

# A link in the policy's folder to the version in force, and what lies in each version.
CURRENT = "current"
TABLE = "table.bin"
DOCUMENTS = "policies.json"
GRAPH = "graph.json"
SOURCES = "policies"
# What pods need, for the webhook: a file for each cluster.
INJECTION = "injection"
_STATUS = "status.json"


@dataclass(frozen=True, slots=True)
class Status:
    """What is in force, what is wrong with what was left out, and how often each happened.

    ``loaded_at`` is in seconds since the epoch.
    """

    revision: str = NO_REVISION
    problems: tuple[str, ...] = ()
    loaded_at: float = 0.0
    reloads: Mapping[str, int] = field(default_factory=lambda: {"ok": 0, "failed": 0})

    def put(self, revision: str) -> Status:
        """The status once a revision is in force."""
        return Status(revision, (), time.time(), self._counted("ok"))

    def refuse(self, problems: tuple[str, ...]) -> Status:
        """The status once a bad change has been left out."""
        return Status(self.revision, problems, self.loaded_at, self._counted("failed"))

    def _counted(self, outcome: str) -> Mapping[str, int]:
        return {**self.reloads, outcome: self.reloads[outcome] + 1}


def read_status(folder: Path) -> Status:
    """What the last build left; nothing is in force before the first."""
    try:
        content = orjson.loads((folder / _STATUS).read_bytes())
    except FileNotFoundError:
        return Status()
    return Status(**content | {"problems": tuple(content["problems"])})


def write_status(folder: Path, status: Status) -> None:
    """Leave a status."""
    write_whole(folder / _STATUS, orjson.dumps(asdict(status)))
