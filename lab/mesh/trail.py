"""What the audit trail says about the attempts of one stretch of time."""

from __future__ import annotations

import time
from collections import Counter
from datetime import datetime
from typing import NamedTuple

import psycopg

from lab.mesh.database import READER, Database
from lab.mesh.processes import MeshError

_PATIENCE = 10.0
_PAUSE = 0.1
# Sidecars report refusals every 0.1 s: what has not come in this time was not to come.
_SETTLED = 0.3
_SELECT = """
SELECT source_id, destination_id, destination_port, verdict, would_be, rule, layer, count(*)
FROM zt_audit.trail WHERE time >= %s GROUP BY 1, 2, 3, 4, 5, 6, 7
"""


class Entry(NamedTuple):
    """What a record says of a connection; ``source`` is ``None`` where nobody showed an ID."""

    source: str | None
    destination: str
    port: int
    verdict: str
    would_be: str
    rule: str
    layer: str


class Trail:
    """A reader of the trail."""

    def __init__(self, database: Database) -> None:
        """Connect.

        Raises:
            MeshError: if the database does not answer.
        """
        try:
            self._connection = psycopg.connect(
                database.dsn(READER), autocommit=True, connect_timeout=2
            )
        except psycopg.OperationalError as error:
            raise MeshError(f"the audit database does not answer: {error}") from None

    def close(self) -> None:
        """Disconnect."""
        self._connection.close()

    def begin(self) -> datetime:
        """The present by the database's clock, once what went before is recorded."""
        time.sleep(_SETTLED)
        row = self._connection.execute("SELECT clock_timestamp()").fetchone()
        assert row is not None  # noqa: S101 - it is one row
        return row[0]  # type: ignore[no-any-return]

    def since(self, start: datetime, expected: int) -> Counter[Entry]:
        """All records since then; waits until as many as expected are there, and a little more."""
        deadline = time.monotonic() + _PATIENCE
        while self._read(start).total() < expected and time.monotonic() < deadline:
            time.sleep(_PAUSE)
        time.sleep(_SETTLED)
        return self._read(start)

    def _read(self, start: datetime) -> Counter[Entry]:
        rows = self._connection.execute(_SELECT, [start]).fetchall()
        return Counter({Entry(*row[:-1]): row[-1] for row in rows})
