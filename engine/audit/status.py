"""What the drainer says about itself, in a file that others read."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from engine.files import write_whole

FILE = "audit.json"


@dataclass(slots=True)
class DrainStatus:
    """Counts since the drainer started; times are in seconds since the epoch.

    ``oldest`` is when the oldest record was made that waits, ``error`` a sentence about why.
    ``lost`` records could not be read or written, ``redated`` ones had a time that the trail does
    not take.
    """

    rows: int = 0
    last_commit: float | None = None
    oldest: float | None = None
    error: str | None = None
    lost: int = 0
    redated: int = 0

    def write(self, folder: Path) -> None:
        """Replace the file.

        Raises:
            OSError: if it can't be written.
        """
        write_whole(folder / FILE, orjson.dumps(asdict(self)))
