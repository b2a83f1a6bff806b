"""Records as JSON, one at a time or as many as there are: a line each (NDJSON)."""

from __future__ import annotations

import gzip
import os
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import orjson

from engine.audit.outcome import AuditRecord

_GZIP = ".gz"


class Sink(Protocol):
    """What takes bytes."""

    def write(self, data: bytes, /) -> object:
        """Take some."""


def timestamp(time: datetime) -> str:
    """RFC 3339 in UTC."""
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


def audit_json(record: AuditRecord) -> dict[str, Any]:
    """A record as HIP-54, "Audit Trail", prints it, and what we know besides."""
    outcome = record.outcome
    return {
        "timestamp": timestamp(record.time),
        "decision": outcome.verdict,
        "source": {
            "spiffe_id": outcome.source_id,
            "pod": outcome.source_pod,
            "node": outcome.source_node,
        },
        "destination": {
            "spiffe_id": outcome.destination_id,
            "port": outcome.destination_port,
        },
        "policy_matched": outcome.rule,
        "latency_us": record.latency_us,
        "id": str(record.id),
        "would_be": outcome.would_be,
        "phase": outcome.phase,
        "reason": outcome.reason,
        "layer": outcome.layer,
        "revision": outcome.revision,
        "on_behalf_of": outcome.on_behalf_of,
    }


def json_line(record: AuditRecord) -> bytes:
    """A record as a line of NDJSON."""
    return orjson.dumps(audit_json(record), option=orjson.OPT_APPEND_NEWLINE)


async def write_lines(records: AsyncIterator[AuditRecord], file: Sink) -> int:
    """Write records to a file; how many they were.

    Raises:
        OSError: if it can't be written.
    """
    count = 0
    async for record in records:
        file.write(json_line(record))
        count += 1
    return count


@contextmanager
def new_file(path: Path) -> Iterator[Sink]:
    """A file that has its name once it is whole; compressed if the name ends in ``.gz``.

    Only its owner may read it. Where the body fails, whatever had the name before stays.

    Raises:
        OSError: if it can't be written.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if path.suffix == _GZIP:
                # Without a time and a name in it, the same records are the same bytes.
                with gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
                    yield packed
            else:
                yield file
            file.flush()
            os.fsync(descriptor)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
