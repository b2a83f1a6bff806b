"""The policy in force, as a worker sees it: followed by a link, opened when that changes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from engine.policy.status import CURRENT, TABLE, Status, read_status
from engine.policy.table import Snapshot, at_once, empty_snapshot, open_snapshot

_log = logging.getLogger(__name__)


class PolicyStore:
    """What the builder put into a folder. ``current`` is replaced, never changed."""

    def __init__(self, folder: Path, rest: Callable[[], None] = at_once) -> None:
        """Nothing is opened before ``refresh``; until then everything is DENY.

        ``rest`` is called now and then while a table is opened.
        """
        self._rest = rest
        self._folder = folder
        self._seen: Path | None = None
        self.current: Snapshot = empty_snapshot()

    def refresh(self) -> bool:
        """Open what is in force now; whether it is another than before."""
        try:
            target = (self._folder / CURRENT).readlink()
        except FileNotFoundError:
            return False
        if target == self._seen:
            return False
        try:
            self.current = open_snapshot(self._folder / target, TABLE, self._rest)
        except (OSError, ValueError) as error:
            # Tried again at the next look: the builder may have put another one there meanwhile.
            _log.error("policy revision %s stays in force: %s", self.current.revision, error)
            return False
        self._seen = target
        return True

    @property
    def status(self) -> Status:
        """What the builder says; read anew each time."""
        return read_status(self._folder)
