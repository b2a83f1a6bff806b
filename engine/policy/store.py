"""The policy in force: loaded, checked, indexed, and swapped at once when its files change."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from engine.locate import Surroundings, surroundings
from zt.check import check
from zt.compile.decisions import revision
from zt.decide import EMPTY_TABLE, DecisionTable, decision_table
from zt.effective import Effective, effective
from zt.load import load
from zt.model import Policy
from zt.position import Finding, Severity

NO_REVISION = "none"
_DATA_LINK = "..data"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that a decision needs, of one policy on one day. ``effective`` is ``None`` before any."""

    effective: Effective | None
    table: DecisionTable
    surroundings: Surroundings
    revision: str


NOTHING = Snapshot(None, EMPTY_TABLE, Surroundings(), NO_REVISION)


def snapshot(policy: Policy, today: date) -> Snapshot:
    """Index a policy on a day."""
    resolved = effective(policy, today)
    table = decision_table(policy, today)
    return Snapshot(resolved, table, surroundings(policy), revision(resolved, table))


class PolicyStore:
    """The policy of a path.

    A change that does not load or check leaves the last good snapshot in force and its errors in
    ``problems``. Readers take ``current`` once per decision; a swap is one assignment.
    """

    def __init__(self, path: Path, today: Callable[[], date]) -> None:
        """Nothing is read before ``refresh``; until then everything is DENY."""
        self._path = path
        self._today = today
        self._seen: object = None
        self.current = NOTHING
        self.problems: tuple[Finding, ...] = ()

    def refresh(self) -> None:
        """Read the policy again if a file or the day changed. Slow: not for the event loop."""
        today = self._today()
        seen = today, fingerprint(self._path)
        if seen == self._seen:
            return
        self._seen = seen
        self._reload(today)

    def _reload(self, today: date) -> None:
        read, errors = _read(self._path, today)
        self.problems = errors
        if read is None:
            for finding in errors:
                _log.error("policy revision %s stays in force: %s", self.current.revision, finding)
            return
        self.current = snapshot(read, today)
        _log.info("policy revision %s is in force", self.current.revision)


def _read(path: Path, today: date) -> tuple[Policy | None, tuple[Finding, ...]]:
    """The policy of a path, or the errors that keep it from being one."""
    loaded = load(path)
    policy, findings = loaded.policy, loaded.findings
    if policy is not None:
        findings = (*findings, *check(policy, today))
    errors = tuple(finding for finding in findings if finding.severity is Severity.ERROR)
    return (None if errors else policy), errors


def fingerprint(root: Path) -> object:
    """Changes when a policy file does, or the link that a ConfigMap mount swaps."""
    try:
        data = root / _DATA_LINK
        link = data.readlink() if data.is_symlink() else None
        return link, tuple(_stats(root))
    except OSError as error:
        return error.errno, str(error.filename)


def _stats(root: Path) -> Iterator[tuple[str, int, int, int]]:
    files = sorted(path for path in root.rglob("*.y*ml") if path.is_file()) or [root]
    for file in files:
        stat = file.stat()
        yield str(file), stat.st_mtime_ns, stat.st_size, stat.st_ino
