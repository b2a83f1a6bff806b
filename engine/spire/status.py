"""What is wrong with getting the evaluator's SVID, in a file that health reads."""

from __future__ import annotations

from pathlib import Path

import orjson

from engine.files import write_whole

_FILE = "identity.json"


def write_problem(folder: Path, problem: str | None) -> None:
    """Say what is wrong, or that nothing is.

    Raises:
        OSError: if it can't be written.
    """
    write_whole(folder / _FILE, orjson.dumps({"problem": problem}))


def read_problem(folder: Path) -> str | None:
    """What is wrong, as far as anybody said."""
    try:
        found = orjson.loads((folder / _FILE).read_bytes())["problem"]
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return found if isinstance(found, str) else None
