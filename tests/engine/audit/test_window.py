"""A spool that appends in memory: as much is there of it as of one that writes."""

import errno
import mmap
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.audit import window
from engine.audit.frames import Tail
from engine.audit.layout import MAX_BODY, segments, writers
from engine.audit.spool import Spool
from engine.audit.window import WINDOW_BYTES, Window
from tests.engine.audit.spools import NOW_US, Disk, broken, read_all, settled

PAGE = mmap.PAGESIZE
SEGMENT = 16 * PAGE


@pytest.fixture
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Spool]:
    monkeypatch.setattr(window, "WINDOW_BYTES", 3 * PAGE)
    disk = Disk(fail={"pwrite": broken})
    made = Spool(
        tmp_path, segment_bytes=SEGMENT, limit_bytes=1 << 22, files=disk.files(), mapped=True
    )
    settled(made)
    yield made
    made.close()


def read(root: Path, writer: int) -> list[bytes]:
    tail = Tail(root, writer)
    outcomes, gaps = read_all(tail)
    tail.close()
    assert gaps == []
    return outcomes


def test_a_window_takes_the_longest_record() -> None:
    assert WINDOW_BYTES >= MAX_BODY + 8 + PAGE


def test_records_go_on_from_window_to_window_and_segment_to_segment(spool: Spool) -> None:
    expected = []
    for number in range(1, 1500):
        outcome = b"%d," % number * (number % 97 + 1)
        assert spool.append(outcome, NOW_US, 5) == number
        expected.append(outcome)
        if number % 50 == 0:
            settled(spool)
            assert read(spool.folder.parent, spool.writer) == expected
    assert len(segments(spool.folder)) > 2
    assert spool.sync() == 1499


def test_what_is_sealed_is_all_there_and_the_last_page_need_not_be_whole(tmp_path: Path) -> None:
    spool = Spool(tmp_path, segment_bytes=PAGE + 100, limit_bytes=1 << 20, mapped=True)
    expected = []
    for number in range(1, 100):
        settled(spool)
        expected.append(b"x" * number)
        assert spool.append(expected[-1], NOW_US, 5) == number
    spool.close()
    assert read(tmp_path, spool.writer) == expected


@pytest.mark.parametrize("error", [errno.EFAULT, errno.EINVAL, errno.ENODEV])
def test_where_there_can_be_no_window_records_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    disk, expected, refused = Disk(), [], 0
    spool = Spool(
        tmp_path, segment_bytes=SEGMENT, limit_bytes=1 << 22, files=disk.files(), mapped=True
    )
    for number in range(1, 1000):
        settled(spool)
        outcome = b"%d," % number * 40
        with monkeypatch.context() as patch:
            if number % 300 < 150:
                patch.setattr(mmap, "mmap", failing(error))
            if number % 7 == 0:
                disk.fail["pwrite"] = broken
            try:
                sequence = spool.append(outcome, NOW_US, 5)
            except OSError:
                refused += 1
            else:
                expected.append(outcome)
                assert sequence == len(expected)
            disk.fail.clear()
    assert 50 < refused < 142
    assert read(tmp_path, spool.writer) == expected
    spool.close()


def test_a_window_says_whether_the_system_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "segment"
    path.write_bytes(bytes(SEGMENT))
    with path.open("r+b") as file:
        opened = Window(file.fileno(), PAGE + 5, SEGMENT)
        assert (opened.start, opened.size) == (PAGE, 15 * PAGE)
        opened.memory[5:8] = b"abc"
        opened.close()
        assert path.read_bytes()[PAGE + 5 : PAGE + 8] == b"abc"
        monkeypatch.setattr(mmap, "mmap", failing(errno.EINVAL))
        with pytest.raises(OSError, match="Invalid argument"):
            Window(file.fileno(), 0, SEGMENT)


def test_a_killed_process_leaves_all_that_it_acknowledged(tmp_path: Path) -> None:
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover - ends by a signal
        spool = Spool(tmp_path, segment_bytes=SEGMENT, limit_bytes=1 << 24, mapped=True)
        settled(spool)
        while True:
            try:
                sequence = spool.append(b"x" * 100, NOW_US, 5)
            except OSError:
                continue
            os.write(tell, sequence.to_bytes(8, "little"))
    os.close(tell)
    for _ in range(3_000):
        os.read(told, 8)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    rest = b""
    while more := os.read(told, 1 << 16):
        rest += more
    os.close(told)
    last = int.from_bytes(rest[-8:] or (3_000).to_bytes(8, "little"), "little")
    [writer] = writers(tmp_path)
    assert last <= len(read(tmp_path, writer)) <= last + 1


class _Refusing(mmap.mmap):
    """A mapping none of whose pages can be written."""

    error = errno.EFAULT

    def madvise(self, *_: int) -> None:
        raise OSError(self.error, os.strerror(self.error))


def failing(error: int) -> Callable[..., mmap.mmap]:
    return type("_Failing", (_Refusing,), {"error": error})
