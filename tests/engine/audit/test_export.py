"""Records as JSON, and files of them."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from engine.audit.export import audit_json, json_line, new_file, timestamp, write_lines
from engine.audit.outcome import AuditRecord, record_id
from tests.engine.audit.ledger import DENIED, OUTCOME
from tests.engine.samples import DB, WEB

RECORD = AuditRecord(
    record_id(0x123456789ABCDEF, 1), datetime(2026, 11, 24, 10, 30, tzinfo=UTC), 42, OUTCOME
)
# What the specification prints.
SPECIFIED = {
    "timestamp": "2026-11-24T10:30:00Z",
    "decision": "ALLOW",
    "source": {"spiffe_id": WEB, "pod": "web-1", "node": "n1"},
    "destination": {"spiffe_id": DB, "port": 5432},
    "policy_matched": "core/rule-1",
    "latency_us": 42,
}


async def some(records: list[AuditRecord]) -> AsyncIterator[AuditRecord]:
    for record in records:
        yield record


def test_a_record_is_the_specifications_and_more() -> None:
    found = audit_json(RECORD)
    assert {name: found[name] for name in SPECIFIED} == SPECIFIED
    assert set(found) - set(SPECIFIED) == {
        "id",
        "would_be",
        "phase",
        "reason",
        "layer",
        "revision",
        "on_behalf_of",
    }


def test_a_line_is_the_same_record() -> None:
    nobody = DENIED._replace(source_id=None, source_pod=None, rule="a\nb\u2028\u00e9")
    record = AuditRecord(RECORD.id, RECORD.time, 0, nobody)
    line = json_line(record)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert json.loads(line) == json.loads(json.dumps(audit_json(record)))


def test_times_are_in_utc_whatever_their_zone() -> None:
    time = datetime(2026, 11, 24, 1, 0, 0, 7, tzinfo=timezone(timedelta(hours=2)))
    assert timestamp(time) == "2026-11-23T23:00:00.000007Z"


@pytest.mark.parametrize("name", ["out.ndjson", "out.ndjson.gz"])
def test_a_file_has_a_line_for_each_record(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with new_file(path) as file:
        assert asyncio.run(write_lines(some([RECORD] * 3), file)) == 3
        assert not path.exists()
    content = path.read_bytes()
    text = gzip.decompress(content) if name.endswith("gz") else content
    assert text == json_line(RECORD) * 3
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_the_same_records_are_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.gz", "b.gz"):
        with new_file(tmp_path / name) as file:
            file.write(json_line(RECORD))
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


def write_half(path: Path, error: type[BaseException]) -> None:
    with new_file(path) as file:
        file.write(b"half")
        raise error


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_what_was_there_stays_if_writing_fails(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "out.ndjson"
    path.write_text("before")
    with pytest.raises(error):
        write_half(path, error)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]
