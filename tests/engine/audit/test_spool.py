import errno
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from engine.audit import spool as module
from engine.audit.frames import Gap, Tail
from engine.audit.layout import BODY, MAX_BODY, MAX_LATENCY, segment_name, segments, writers
from engine.audit.spool import Spool
from tests.engine.audit.spools import (
    LIMIT,
    NOW_US,
    SEGMENT,
    Disk,
    KilledError,
    broken,
    kill,
    killed,
    outcomes_of,
    read_all,
    settled,
    written_in_part,
)


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def spool(tmp_path: Path, disk: Disk) -> Iterator[Spool]:
    made = Spool(tmp_path, segment_bytes=SEGMENT, limit_bytes=LIMIT, files=disk.files())
    yield made
    made.close()


def append(spool: Spool, outcome: bytes = b"[]") -> int:
    return spool.append(outcome, NOW_US, 5)


def read(spool: Spool) -> list[bytes]:
    tail = Tail(spool.folder.parent, spool.writer)
    outcomes, gaps = read_all(tail)
    tail.close()
    assert gaps == []
    return outcomes


def fill(spool: Spool) -> tuple[int, OSError]:
    """Append until that fails: how many there were, and the failure."""
    for taken in range(10_000):
        try:
            append(spool, b"%d" % taken)
        except OSError as error:
            return taken, error
    pytest.fail("there is room without end")


def test_records_are_numbered_from_one_and_read_in_order(spool: Spool) -> None:
    wanted = [b"%d" % number * (number % 90 + 1) for number in range(500)]
    assert [append(spool, outcome) for outcome in wanted] == list(range(1, 501))
    assert read(spool) == wanted
    assert len(segments(spool.folder)) > 5


def test_time_and_latency_are_kept(spool: Spool) -> None:
    spool.append(b"x", -5, 7)
    spool.append(b"y", 1 << 70, 1 << 40)
    tail = Tail(spool.folder.parent, spool.writer)
    found = tail.read(10)
    tail.close()
    assert found is not None
    assert not isinstance(found, Gap)
    assert BODY.unpack_from(found.bodies[0]) == (1, -5, 7)
    assert BODY.unpack_from(found.bodies[1]) == (2, (1 << 63) - 1, MAX_LATENCY)


def test_a_record_that_no_frame_holds_is_refused_and_harms_none(spool: Spool) -> None:
    append(spool, b"a")
    with pytest.raises(OSError, match="too long"):
        append(spool, b"x" * MAX_BODY)
    append(spool, b"b")
    assert read(spool) == [b"a", b"b"]


@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.99])
@pytest.mark.parametrize("raises", [False, True])
def test_a_frame_that_was_not_written_whole_is_no_record(
    spool: Spool, disk: Disk, part: float, *, raises: bool
) -> None:
    append(spool, b"a")
    disk.fail["pwrite"] = written_in_part(part, broken if raises else None)
    with pytest.raises(OSError, match=r"bytes were written|Input/output"):
        append(spool, b"lost" * 50)
    assert read(spool) == [b"a"]
    assert append(spool, b"b") == 2
    assert read(spool) == [b"a", b"b"]


def test_a_write_that_fails_after_all_was_written_is_a_record(spool: Spool, disk: Disk) -> None:
    """The drainer may have moved it already: its number must not be given to another."""
    disk.fail["pwrite"] = written_in_part(1, broken)
    assert append(spool, b"a") == 1
    assert append(spool, b"b") == 2
    assert read(spool) == [b"a", b"b"]


def test_at_the_limit_nothing_is_recorded_until_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_RETRY", 0.001)
    spool = Spool(tmp_path, segment_bytes=SEGMENT, limit_bytes=3 * SEGMENT)
    taken, failure = fill(spool)
    assert failure.errno == errno.EDQUOT
    assert read(spool) == [b"%d" % number for number in range(taken)]
    assert len(segments(spool.folder)) == 3
    with pytest.raises(OSError, match="limit"):
        append(spool)
    (spool.folder / segment_name(1)).unlink()
    settled(spool)
    assert append(spool) == taken + 1
    spool.close()


def test_the_limit_is_that_of_all_writers(tmp_path: Path) -> None:
    one = Spool(tmp_path, segment_bytes=SEGMENT, limit_bytes=3 * SEGMENT)
    append(one)
    settled(one)
    other = Spool(tmp_path, segment_bytes=SEGMENT, limit_bytes=3 * SEGMENT)
    assert 1 <= fill(other)[0] < 500
    assert len(segments(other.folder)) == 1
    one.close()
    other.close()


def test_a_full_disk_keeps_nobody_from_starting(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_RETRY", 0.001)
    disk.full = True
    spool = Spool(tmp_path, segment_bytes=SEGMENT, limit_bytes=LIMIT, files=disk.files())
    with pytest.raises(OSError, match="No space"):
        append(spool)
    disk.full = False
    settled(spool)
    assert append(spool) == 1
    spool.close()


def test_a_segment_whose_synchronisation_failed_is_never_synchronised_again(
    spool: Spool, disk: Disk
) -> None:
    append(spool, b"a")
    disk.fail["datasync"] = broken
    with pytest.raises(OSError, match="Input/output"):
        spool.sync()
    failed = disk.datasyncs[-1]
    append(spool, b"b")
    assert segments(spool.folder) == [1, 2]
    assert spool.sync() == 2
    assert disk.datasyncs.count(failed) == 1
    assert read(spool) == [b"a", b"b"]


def test_the_failed_synchronisation_of_a_sealed_segment_is_told_by_the_next(
    spool: Spool, disk: Disk
) -> None:
    append(spool, b"a")
    disk.fail["datasync"] = broken
    append(spool, b"x" * (SEGMENT - 100))
    append(spool, b"y" * 100)
    settled(spool)
    with pytest.raises(OSError, match="Input/output"):
        spool.sync()
    assert spool.sync() == 3


def test_records_are_synchronised_up_to_the_last(spool: Spool, disk: Disk) -> None:
    assert spool.sync() == 0
    for number in range(1, 100):
        append(spool, b"x" * 500)
        assert spool.sync() == number
    assert len(disk.datasyncs) >= 99


def test_a_folder_is_its_writers_while_it_lives(spool: Spool) -> None:
    root = spool.folder.parent
    assert writers(root) == [spool.writer]
    assert not Tail(root, spool.writer).is_dead()
    append(spool)
    other = Spool(root, segment_bytes=SEGMENT, limit_bytes=LIMIT)
    other.close()
    assert len(writers(root)) == 2
    tail = Tail(root, other.writer)
    assert tail.is_dead()
    tail.close()


def test_closing_leaves_the_records_alone(tmp_path: Path) -> None:
    spool = Spool(tmp_path, segment_bytes=SEGMENT, limit_bytes=LIMIT)
    append(spool, b"a")
    settled(spool)
    spool.close()
    assert os.listdir(spool.folder) == [segment_name(1)]  # noqa: PTH208 - names alone
    assert read(spool) == [b"a"]


def test_an_append_is_quick(tmp_path: Path) -> None:
    """Far above what is measured: it fails if something slow comes into its way."""
    spool = Spool(tmp_path, segment_bytes=64 << 20, limit_bytes=1 << 30)
    append(spool)
    outcome = b"x" * 330
    times = []
    for _ in range(5000):
        started = time.perf_counter_ns()
        spool.append(outcome, NOW_US, 5)
        times.append(time.perf_counter_ns() - started)
    spool.close()
    assert sorted(times)[2500] < 20_000


class SpoolMachine(RuleBasedStateMachine):
    """Writers come, append, fail and are killed; a drainer reads, commits and is killed as well.

    What was acknowledged is read, in order, once. Beyond that, what is read is at most the one
    record that a writer was killed with.
    """

    alive = Bundle("alive")

    @initialize()
    def begin(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="zt-spool-"))
        self.disk = Disk()
        self.acknowledged: dict[int, list[bytes]] = {}
        self.attempted: dict[int, bytes] = {}
        self.recorded: dict[int, list[bytes]] = {}
        self.living: set[int] = set()
        self.spools: dict[int, Spool] = {}
        self.tails: dict[int, Tail] = {}
        self.number = 0

    @rule(target=alive, mapped=st.booleans())
    def start(self, *, mapped: bool) -> int:
        spool = Spool(
            self.root,
            segment_bytes=SEGMENT,
            limit_bytes=1 << 30,
            files=self.disk.files(),
            mapped=mapped,
        )
        self.spools[spool.writer] = spool
        self.acknowledged[spool.writer] = []
        self.recorded[spool.writer] = []
        self.living.add(spool.writer)
        return spool.writer

    @rule(
        writer=alive,
        size=st.integers(1, 1500),
        times=st.integers(1, 5),
        failure=st.sampled_from(
            [
                None,
                None,
                broken,
                *(written_in_part(part) for part in (0.0, 0.3, 0.999)),
                *(written_in_part(part, broken) for part in (0.05, 0.9, 1)),
                *(written_in_part(part, killed) for part in (0.0, 0.1, 0.6, 1)),
            ]
        ),
    )
    def append(self, writer: int, size: int, times: int, failure: object) -> None:
        for _ in range(times):
            if writer not in self.living:
                return
            self.number += 1
            outcome = b"%d," % self.number * (size // 5 + 1)
            if callable(failure):
                self.disk.fail["pwrite"] = failure
            self._append(writer, outcome)
            self.disk.fail.clear()

    def _append(self, writer: int, outcome: bytes) -> None:
        try:
            sequence = self.spools[writer].append(outcome, NOW_US, 1)
        except OSError:
            return
        except KilledError:
            self.attempted[writer] = outcome
            self.kill(writer)
            return
        self.acknowledged[writer].append(outcome)
        assert sequence == len(self.acknowledged[writer])

    @rule(writer=alive, fails=st.booleans())
    def sync(self, writer: int, *, fails: bool) -> None:
        if writer not in self.living:
            return
        if fails:
            self.disk.fail["datasync"] = broken
        try:
            assert self.spools[writer].sync() == len(self.acknowledged[writer])
        except OSError:
            assert fails or self.spools[writer].sync() >= 0
        self.disk.fail.clear()

    @rule(writer=alive)
    def kill(self, writer: int) -> None:
        if writer in self.living:
            self.living.remove(writer)
            kill(self.spools[writer])

    @rule(full=st.booleans())
    def fill_or_free_the_disk(self, *, full: bool) -> None:
        self.disk.full = full

    @rule(limit=st.integers(1, 9), commits=st.booleans())
    def drain(self, limit: int, *, commits: bool) -> None:
        for writer in writers(self.root):
            tail = self.tails.get(writer)
            if tail is None:
                tail = self.tails[writer] = Tail(self.root, writer)
                tail.seek(len(self.recorded[writer]))
            self._drain(tail, limit, commits=commits)

    def _drain(self, tail: Tail, limit: int, *, commits: bool) -> bool:
        found = tail.read(limit)
        assert not isinstance(found, Gap)
        recorded = self.recorded[tail.writer]
        if found is not None and commits:
            assert found.first == len(recorded) + 1
            recorded += outcomes_of(found)
        elif found is not None:
            tail.back()
        tail.release(len(recorded))
        if tail.ended:
            tail.remove()
            tail.close()
            del self.tails[tail.writer]
        return found is not None

    @rule()
    def kill_the_drainer(self) -> None:
        for tail in self.tails.values():
            tail.close()
        self.tails.clear()

    @invariant()
    def nothing_else_is_read(self) -> None:
        for writer, recorded in getattr(self, "recorded", {}).items():
            possible = self.acknowledged[writer] + [self.attempted.get(writer, b"")]
            assert recorded == possible[: len(recorded)]

    def teardown(self) -> None:
        if hasattr(self, "root"):
            try:
                self.drain_all()
            finally:
                shutil.rmtree(self.root)

    def drain_all(self) -> None:
        for writer in list(self.living):
            self.kill(writer)
        self.disk.full = False
        while writers(self.root):
            self.drain(1000, commits=True)
        for writer, acknowledged in self.acknowledged.items():
            assert self.recorded[writer][: len(acknowledged)] == acknowledged
        self.nothing_else_is_read()
        assert not any(self.root.iterdir())


TestSpoolMachine = SpoolMachine.TestCase
TestSpoolMachine.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
