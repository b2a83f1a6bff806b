import os
from pathlib import Path

import pytest

from engine.metrics import cells
from engine.metrics.cells import FIRST, FIRST_PAIR, Cells, readings
from engine.metrics.families import FIXED

A, B = ("zt_a", "x"), ("zt_b", 'y"\n\u2028')


def index(found: int | None) -> int:
    assert found is not None
    return found


def counted(folder: Path) -> list[dict[tuple[str, ...], int]]:
    return [
        {series: value for series, value in reading.series if series not in FIXED}
        for reading in readings(folder)
    ]


def test_what_is_written_is_read_by_others(tmp_path: Path) -> None:
    one, other = Cells(tmp_path), Cells(tmp_path)
    one.values[index(one.add(A))] += 3
    one.values[index(one.add(B))] += 4
    other.values[index(other.add(B))] += 5
    assert sorted(counted(tmp_path), key=len) == [{B: 5}, {A: 3, B: 4}]
    assert len(one.reading().series) == len(FIXED) + 2


def test_a_file_whose_process_ended_is_taken_over(tmp_path: Path) -> None:
    first = Cells(tmp_path)
    first.values[index(first.add(A))] = 7
    first.close()
    second = Cells(tmp_path)
    second.values[second.indices()[A]] += 1
    assert counted(tmp_path) == [{A: 8}]


@pytest.mark.parametrize("torn", [b'["zt_c', b"\0\0\0\0\n", b'["zt_c"]'])
def test_a_name_that_was_not_finished_is_written_over(tmp_path: Path, torn: bytes) -> None:
    first = Cells(tmp_path)
    first.values[index(first.add(A))] = 7
    first.values[FIRST + len(FIXED) + 1] = 99
    first.close()
    [names] = tmp_path.glob("*.names")
    names.write_bytes(names.read_bytes() + torn)
    assert counted(tmp_path) == [{A: 7}]
    second = Cells(tmp_path)
    second.values[index(second.add(B))] += 1
    assert counted(tmp_path) == [{A: 7, B: 1}]


def test_a_name_that_cannot_be_written_gets_no_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = Cells(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", _full)
        assert mine.add(A) is None
    mine.values[index(mine.add(B))] += 1
    assert counted(tmp_path) == [{B: 1}]


def test_the_list_of_names_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "NAMES_CHUNK", 16)
    mine = Cells(tmp_path)
    for number in range(50):
        mine.values[index(mine.add((f"zt_{number}", "x" * number)))] = number
    assert counted(tmp_path) == [{(f"zt_{number}", "x" * number): number for number in range(50)}]
    mine.close()
    again = Cells(tmp_path)
    assert len(again.names) == len(FIXED) + 50
    again.values[index(again.add(A))] = 1
    assert counted(tmp_path)[0][A] == 1


def test_there_are_cells_for_so_many_series_and_no_more() -> None:
    mine = Cells(None)
    free = cells.SERIES_LIMIT - len(FIXED)
    added = [mine.add((str(number),)) for number in range(free)]
    assert added[-1] == FIRST_PAIR - 1
    assert len(set(added)) == free
    assert mine.add(A) is None


def test_without_a_usable_folder_cells_are_in_memory(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    mine = Cells(tmp_path / "file")
    mine.values[index(mine.add(A))] += 1
    assert mine.reading().series[-1] == (A, 1)
    assert "kept in memory" in caplog.text


def _full(_file: int, _start: int, _length: int) -> int:
    raise OSError(28, "No space left on device")
