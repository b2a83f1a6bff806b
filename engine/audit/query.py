"""What is asked of the trail, and where a page ended."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from zt.decide import Verdict


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last record of a page; the next page begins after it."""

    time: datetime
    id: UUID

    def __str__(self) -> str:
        return base64.urlsafe_b64encode(f"{self.time.isoformat()} {self.id}".encode()).decode()


def parse_cursor(text: str) -> Cursor:
    """Read a cursor.

    Raises:
        ValueError: if it is none of ours.
    """
    try:
        time, _, identifier = base64.urlsafe_b64decode(text.encode()).decode().partition(" ")
        cursor = Cursor(datetime.fromisoformat(time), UUID(identifier))
    except (binascii.Error, UnicodeError, ValueError):
        raise ValueError("the cursor should be the 'next' of an earlier page") from None
    if cursor.time.tzinfo is None:
        raise ValueError("the cursor should be the 'next' of an earlier page")
    return cursor


@dataclass(frozen=True, slots=True)
class Query:
    """Which records; what is ``None`` does not matter. ``until`` is exclusive.

    A ``source`` of ``""`` means that none was presented.
    """

    since: datetime | None = None
    until: datetime | None = None
    verdict: Verdict | None = None
    source: str | None = None
    destination: str | None = None
    rule: str | None = None
    pod: str | None = None
    layer: str | None = None
    reason: str | None = None
    after: Cursor | None = None
    limit: int = 100
