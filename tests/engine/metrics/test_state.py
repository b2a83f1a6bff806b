import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.audit.status import DrainStatus
from engine.metrics import state
from engine.policy.status import Status, write_status


@given(st.binary(max_size=3000).map(lambda tail: tail + b"\1"), st.integers(0, 40))
def test_the_written_part_of_a_segment_is_found(
    tmp_path_factory: pytest.TempPathFactory, tail: bytes, pages: int
) -> None:
    """Records are never a whole page of zeros."""
    path = tmp_path_factory.mktemp("segment") / "1.segment"
    content = (b"\0" * 4000 + b"\1" * 96) * pages + tail
    path.write_bytes(content)
    os.truncate(path, 1 << 20)
    assert state._used(path) == len(content)


def test_an_empty_segment_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "1.segment"
    path.touch()
    assert state._used(path) == 0
    os.truncate(path, 1 << 20)
    assert state._used(path) == 0
    assert state._used(tmp_path / "gone") == 0


def test_the_spool_is_as_large_as_its_segments(tmp_path: Path) -> None:
    for writer in ("aaa", "bbb"):
        (tmp_path / "spool" / writer).mkdir(parents=True)
        (tmp_path / "spool" / writer / "1.segment").write_bytes(b"x" * 100 + b"\0" * 9000)
    assert state.spool_bytes(tmp_path) == 200


@pytest.mark.parametrize("content", [None, b"", b"[]", b"{", b'{"rows": "many"}'])
def test_what_cannot_be_read_is_taken_for_nothing(tmp_path: Path, content: bytes | None) -> None:
    (tmp_path / "policy").mkdir()
    if content is not None:
        (tmp_path / "audit.json").write_bytes(content)
        (tmp_path / "policy" / "status.json").write_bytes(content)
    assert state.drained(tmp_path) == state.Drained()
    assert state.status(tmp_path) == Status()


def test_the_policys_status_is_what_the_builder_left(tmp_path: Path) -> None:
    (tmp_path / "policy").mkdir()
    left = Status().put("r1").refuse(("no such service",))
    write_status(tmp_path / "policy", left)
    assert state.status(tmp_path) == left


def test_the_drainers_word_is_taken(tmp_path: Path) -> None:
    DrainStatus(rows=7, last_commit=100.5, oldest=90.0, error="no route", lost=1).write(tmp_path)
    found = state.drained(tmp_path)
    assert (found.rows, found.last_commit, found.lost, found.failing) == (7, 100.5, 1, True)
    assert found.waited(100.0) == 10
    DrainStatus(rows=7, last_commit=100.5).write(tmp_path)
    assert not state.drained(tmp_path).failing


def test_a_drainer_that_says_nothing_any_more_may_let_records_wait() -> None:
    found = state.Drained(reported=1000.0)
    assert found.waited(1005.0) == 0
    assert found.waited(1060.0) == 60
    assert state.Drained(oldest=900.0, reported=1000.0).waited(1060.0) == 160
    assert state.Drained().waited(1060.0) == 0
