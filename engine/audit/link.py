"""The drainer's way to the database: found again whenever it is lost, and what is known of it."""

from __future__ import annotations

import logging
import time

from engine.audit.database import Head, TrailDatabase
from engine.audit.frames import Gap, Records
from engine.audit.rows import Outcomes, corrected, days, prepare
from engine.audit.status import DrainStatus

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0
_PARTITIONS_AGAIN = 3600.0

_log = logging.getLogger(__name__)


class Link:
    """A connection that comes and goes. ``number`` counts those that there were."""

    def __init__(self, dsn: str, status: DrainStatus) -> None:
        """Nothing is opened before ``open``."""
        self.number = 0
        self.head: Head | None = None
        self._dsn = dsn
        self._status = status
        self._database: TrailDatabase | None = None
        self._pause = _FIRST_PAUSE
        self._next_attempt = 0.0
        self._looked_ahead = 0.0
        self._outcomes = Outcomes()
        self._days: set[int] = set()
        self._refused: set[int] = set()

    def open(self) -> TrailDatabase | None:
        """The database; ``None`` while it is too early to try again.

        Raises:
            psycopg.Error: if it can't be reached, or refuses.
        """
        now = time.monotonic()
        if self._database is None:
            if now < self._next_attempt:
                return None
            self._outcomes.clear()
            self._looked_ahead = 0.0
            self._database = TrailDatabase(self._dsn)
            self.number += 1
        if not self._looked_ahead or now - self._looked_ahead > _PARTITIONS_AGAIN:
            self._days.clear()
            self._refused.clear()
            self._database.make_partitions_ahead()
            self._looked_ahead = now
        return self._database

    def last_recorded(self, writer: int) -> int:
        """The last record of a writer that the trail has; 0 if none.

        Raises:
            psycopg.Error: if the database does not answer.
        """
        return self._opened().last_recorded(writer)

    def write(self, writer: int, found: Records | Gap) -> Head:
        """Write what was read of a writer.

        Raises:
            psycopg.Error: if the database does not take it.
            ValueError: if it is no record.
        """
        database = self._opened()
        if isinstance(found, Gap):
            self.head = database.write_gap(writer, found.first, found.last)
        else:
            batch = prepare(writer, self._dated(database, writer, found), self._outcomes)
            self.head = database.write(writer, batch)
            self._outcomes.store(batch.new)
            self._status.rows += batch.last - batch.first + 1
        self._pause = _FIRST_PAUSE
        self._status.last_commit = time.time()
        self.well()
        return self.head

    def well(self) -> None:
        """Take note that records are written, or could be."""
        if self._status.error is not None:
            _log.info("the audit trail is written again")
            self._status.error = None

    def lose(self, error: Exception) -> None:
        """Disconnect, and wait for a while, longer each time."""
        self.say(error)
        self.close()
        self._next_attempt = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    def say(self, error: Exception) -> None:
        """Say once what keeps records from being written."""
        sentence = " ".join(str(error).split()) or type(error).__name__
        if self._status.error is None:
            _log.error("the audit trail is not written: %s", sentence)
        self._status.error = sentence

    def close(self) -> None:
        """Disconnect."""
        if self._database is not None:
            self._database.close()
            self._database = None

    def _opened(self) -> TrailDatabase:
        assert self._database is not None  # noqa: S101 - ``open`` is called before
        return self._database

    def _dated(self, database: TrailDatabase, writer: int, records: Records) -> Records:
        """Records, with partitions made for their days.

        The database makes none for days that are far off, where a clock was wrong. Such records
        would keep all others back, so that they get the database's time.
        """
        wanted = days(records.bodies)
        for day in wanted - self._days - self._refused:
            (self._days if database.make_partition(day) else self._refused).add(day)
        if wanted.isdisjoint(self._refused):
            return records
        dated = corrected(records, self._refused, database.now_us())
        changed = sum(map(_differ, records.bodies, dated.bodies))
        self._status.redated += changed
        _log.error(
            "%d of the records %d to %d of writer %015x were of days that the trail does not take,"
            " and are entered as of now",
            changed,
            records.first,
            records.last,
            writer,
        )
        return dated


def _differ(one: bytes, other: bytes) -> bool:
    return one is not other
