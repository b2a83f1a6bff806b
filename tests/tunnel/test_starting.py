"""What is read of a container's log, run by run."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.check.model import BrokenError
from lab.tunnel.starting import Log, await_reasons

WHY = ("permission denied", "role zt-wireguard")
_REFUSED = "fetch: KMS does not read a: permission denied (role zt-wireguard)"
_DONE = "fetch: book of zt-wireguard/a is in /run/zt/wireguard"


def write(log: Log, number: int, *lines: str) -> None:
    text = "".join(f"2026-11-30T11:00:00.5Z stderr F {line}\n" for line in lines)
    (log.folder / f"{number}.log").write_text(text)
    log.look()


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path)


def test_each_run_that_ended_must_have_said_all_of_why(log: Log) -> None:
    write(log, 0, _REFUSED)
    write(log, 1)
    # The last one may still be about to.
    assert log.lacking(WHY) == []
    write(log, 1, "fetch: permission denied")
    write(log, 2, _DONE)
    assert log.lacking(WHY) == [1]
    assert log.is_done
    with pytest.raises(BrokenError, match="run 1 ended without a reason"):
        await_reasons(log, WHY, 1)


def test_what_the_kubelet_removed_was_seen(log: Log) -> None:
    write(log, 0, "first", _REFUSED)
    (log.folder / "0.log").unlink()
    write(log, 1, _REFUSED)
    await_reasons(log, WHY, 2)
    assert log.runs[0].splitlines() == ["first", _REFUSED]
    assert not log.is_done


def test_a_file_that_was_put_aside_is_no_run(log: Log) -> None:
    write(log, 0, _REFUSED)
    (log.folder / "0.log.20261130-110000.gz").write_bytes(b"\x1f\x8b")
    log.look()
    assert list(log.runs) == [0]


def test_before_anything_was_written_there_is_no_run(tmp_path: Path) -> None:
    log = Log(tmp_path / "not yet")
    log.look()
    assert (log.runs, log.is_done, log.lacking(WHY)) == ({}, False, [])
