"""What ceremonies have done: a file that only grows, each entry with the hash of the one before.

Nothing in it is secret: certificates, fingerprints, references to KMS, names. Kept in Git, it is
the one place that says which roots there are. Whoever changes, removes or adds an entry has to
write anew all that follow it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

BEGINNING = "0" * 64
_FIELDS = {"number", "time", "event", "facts", "previous", "hash"}


class TranscriptError(Exception):
    """A transcript that is not whole; the message says where."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that was done. ``facts`` is JSON; ``hash`` is of all the rest of it."""

    number: int
    time: datetime
    event: str
    facts: Mapping[str, Any]
    previous: str
    hash: str


def read(path: Path) -> tuple[Entry, ...]:
    """All entries of a transcript, none if there is no file.

    Raises:
        TranscriptError: if the chain is broken.
        OSError: if it can't be read.
    """
    if not path.exists():
        return ()
    return tuple(_checked(path))


def head(entries: tuple[Entry, ...]) -> str:
    """The hash of the last entry; zeros where there is none."""
    return entries[-1].hash if entries else BEGINNING


def append(path: Path, event: str, facts: Mapping[str, Any], now: datetime) -> Entry:
    """Write an entry behind all others, on disk before this returns.

    Raises:
        TranscriptError: if the chain is broken, and nothing should follow.
        OSError: if it can't be written.
    """
    entries = read(path)
    content = {
        "number": len(entries) + 1,
        "time": now.astimezone(UTC).isoformat(timespec="milliseconds"),
        "event": event,
        "facts": facts,
        "previous": head(entries),
    }
    line = _canonical({**content, "hash": _hash(content)})
    with path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())
    return _entry(json.loads(line))


def _checked(path: Path) -> Iterator[Entry]:
    previous = BEGINNING
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        where = f"{path}, line {number}"
        try:
            content = json.loads(line)
            stated = content.pop("hash")
            complete = content.keys() | {"hash"} == _FIELDS
        except (AttributeError, KeyError, ValueError):
            raise TranscriptError(f"{where}: this is no entry") from None
        if not complete or stated != _hash(content):
            raise TranscriptError(f"{where}: the entry was changed after it was written")
        if (content["number"], content["previous"]) != (number, previous):
            raise TranscriptError(f"{where}: an entry before it was changed or taken away")
        previous = stated
        yield _entry({**content, "hash": stated})


def _entry(content: Mapping[str, Any]) -> Entry:
    return Entry(
        number=content["number"],
        time=datetime.fromisoformat(content["time"]),
        event=content["event"],
        facts=content["facts"],
        previous=content["previous"],
        hash=content["hash"],
    )


def _hash(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(_canonical(content).encode()).hexdigest()


def _canonical(content: Mapping[str, Any]) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
