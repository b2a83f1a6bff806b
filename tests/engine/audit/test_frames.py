import logging
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.audit.frames import Gap, Records, Tail
from engine.audit.layout import FRAME, QUARANTINE, segment_name, segments, writers
from engine.audit.spool import Spool
from tests.engine.audit.spools import LIMIT, NOW_US, SEGMENT, kill, outcomes_of, read_all

NUMBER = 400


def outcome(number: int) -> bytes:
    return b'["%d"]' % number * (number % 7 + 1)


def stored(spool: Spool, outcome: bytes, time_us: int, duration_us: int) -> int:
    """Append; on a busy machine the next segment takes its time, and who asks is refused."""
    while True:
        try:
            return spool.append(outcome, time_us, duration_us)
        except BlockingIOError:
            continue


def left_by_a_killed_writer(root: Path, number: int = NUMBER) -> Tail:
    spool = Spool(root, segment_bytes=SEGMENT, limit_bytes=LIMIT)
    for sequence in range(1, number + 1):
        stored(spool, outcome(sequence), NOW_US + sequence, 5)
    kill(spool)
    return Tail(root, spool.writer)


@pytest.fixture
def tail(tmp_path: Path) -> Iterator[Tail]:
    made = left_by_a_killed_writer(tmp_path)
    yield made
    made.close()


def place(tail: Tail, sequence: int) -> tuple[Path, int]:
    """The segment and the offset of a record's frame."""
    first = max(first for first in segments(tail.folder) if first <= sequence)
    offset = sum(FRAME.size + len(outcome(number)) for number in range(first, sequence))
    return tail.folder / segment_name(first), offset


def damage(tail: Tail, sequence: int, at: int = 30, bits: int = 0xFF) -> None:
    path, offset = place(tail, sequence)
    content = bytearray(path.read_bytes())
    content[offset + at] ^= bits
    path.write_bytes(content)


def expect_all_but(tail: Tail, missing: list[Gap]) -> None:
    outcomes, gaps = read_all(tail)
    lost = {number for gap in missing for number in range(gap.first, gap.last + 1)}
    assert gaps == missing
    assert outcomes == [outcome(n) for n in range(1, NUMBER + 1) if n not in lost]
    assert tail.ended


@pytest.mark.parametrize("limit", [1, 7, 1000])
def test_whatever_the_limit_all_is_read(tail: Tail, limit: int) -> None:
    outcomes, gaps = read_all(tail, limit)
    assert outcomes == [outcome(number) for number in range(1, NUMBER + 1)]
    assert not gaps
    assert tail.ended


@pytest.mark.parametrize("recorded", [0, 1, 57, NUMBER - 1, NUMBER, NUMBER + 10])
def test_reading_goes_on_behind_what_is_recorded(tail: Tail, recorded: int) -> None:
    """The trail may have more than the spool: what the node lost with its power was drained."""
    for _ in range(2):
        tail.seek(recorded)
        outcomes, gaps = read_all(tail)
        assert outcomes == [outcome(number) for number in range(recorded + 1, NUMBER + 1)]
        assert not gaps


@given(steps=st.lists(st.tuples(st.integers(1, 60), st.booleans()), max_size=20))
@settings(deadline=None, max_examples=30)
def test_what_is_undone_is_read_again(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, bool]]
) -> None:
    tail = left_by_a_killed_writer(tmp_path_factory.mktemp("spool"))
    outcomes: list[bytes] = []
    for limit, undone in steps:
        found = tail.read(limit)
        if undone:
            tail.back()
        elif isinstance(found, Records):
            outcomes += outcomes_of(found)
    outcomes += read_all(tail)[0]
    tail.close()
    assert outcomes == [outcome(number) for number in range(1, NUMBER + 1)]


def test_a_damaged_record_is_reported_and_its_segment_kept(
    tail: Tail, caplog: pytest.LogCaptureFixture
) -> None:
    damage(tail, 50)
    path = place(tail, 50)[0]
    content = path.read_bytes()
    expect_all_but(tail, [Gap(50, 50)])
    tail.release(NUMBER)
    assert not segments(tail.folder)
    kept = tail.root / QUARANTINE / f"{tail.folder.name}-{path.name}"
    assert kept.read_bytes() == content
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2
    assert writers(tail.root) == [tail.writer]


@pytest.mark.parametrize("at", range(0, 30, 3))
def test_wherever_a_frame_is_damaged_the_next_is_found(tail: Tail, at: int) -> None:
    damage(tail, 60, at, 0x5A)
    expect_all_but(tail, [Gap(60, 60)])


def test_several_damaged_records_are_as_many_gaps(tail: Tail) -> None:
    for sequence in (3, 4, 99, NUMBER - 1):
        damage(tail, sequence)
    expect_all_but(tail, [Gap(3, 4), Gap(99, 99), Gap(NUMBER - 1, NUMBER - 1)])


def test_a_torn_last_record_is_the_end(tail: Tail, caplog: pytest.LogCaptureFixture) -> None:
    """A process killed in the middle of a write did not acknowledge it."""
    path, offset = place(tail, NUMBER)
    os.truncate(path, offset + 30)
    outcomes, gaps = read_all(tail)
    assert outcomes == [outcome(number) for number in range(1, NUMBER)]
    assert not gaps
    assert not caplog.records
    tail.release(NUMBER - 1)
    tail.remove()
    assert not writers(tail.root)


def test_a_vanished_segment_is_a_gap(tail: Tail) -> None:
    firsts = segments(tail.folder)
    (tail.folder / segment_name(firsts[2])).unlink()
    expect_all_but(tail, [Gap(firsts[2], firsts[3] - 1)])


def test_the_first_segment_may_vanish_as_well(tail: Tail) -> None:
    second = segments(tail.folder)[1]
    (tail.folder / segment_name(1)).unlink()
    expect_all_but(tail, [Gap(1, second - 1)])


def test_a_segment_of_zeros_is_a_gap(tail: Tail) -> None:
    """So it may look after a loss of power."""
    _, second, third, *_ = segments(tail.folder)
    (tail.folder / segment_name(second)).write_bytes(bytes(SEGMENT))
    expect_all_but(tail, [Gap(second, third - 1)])


@given(seed=st.integers(0, 1 << 32), places=st.integers(1, 20))
@settings(deadline=None, max_examples=40)
def test_random_damage_loses_no_more_than_the_frames_it_hits(
    tmp_path_factory: pytest.TempPathFactory, seed: int, places: int
) -> None:
    tail = left_by_a_killed_writer(tmp_path_factory.mktemp("spool"))
    drawn = random.Random(seed)  # noqa: S311 - damage
    hit = {drawn.randrange(1, NUMBER + 1) for _ in range(places)}
    for sequence in hit:
        damage(tail, sequence, drawn.randrange(FRAME.size + 3), drawn.randrange(1, 256))
    outcomes, gaps = read_all(tail)
    tail.close()
    reported = {number for gap in gaps for number in range(gap.first, gap.last + 1)}
    last = max(set(range(1, NUMBER + 1)) - hit)
    assert reported == {number for number in hit if number < last}
    assert outcomes == [outcome(n) for n in range(1, NUMBER + 1) if n not in hit]


@given(
    synchronised=st.integers(0, 300),
    after=st.integers(0, 100),
    seed=st.integers(0, 1 << 32),
)
@settings(deadline=None, max_examples=40)
def test_a_loss_of_power_takes_nothing_that_was_synchronised(
    tmp_path_factory: pytest.TempPathFactory, synchronised: int, after: int, seed: int
) -> None:
    """Of what was not, any sector may be lost."""
    root = tmp_path_factory.mktemp("spool")
    spool = Spool(root, segment_bytes=SEGMENT, limit_bytes=LIMIT)
    for sequence in range(1, synchronised + 1):
        stored(spool, outcome(sequence), NOW_US, 5)
    assert spool.sync() == synchronised
    tail = Tail(root, spool.writer)
    reached = place(tail, synchronised + 1) if synchronised else (spool.folder, 0)
    for sequence in range(synchronised + 1, synchronised + after + 1):
        stored(spool, outcome(sequence), NOW_US, 5)
    kill(spool)
    drawn = random.Random(seed)  # noqa: S311 - damage
    for first in segments(spool.folder):
        path = spool.folder / segment_name(first)
        if first > synchronised or path == reached[0]:
            lose_sectors(path, 0 if first > synchronised else reached[1], drawn)
    outcomes, gaps = read_all(tail)
    tail.close()
    assert outcomes[:synchronised] == [outcome(n) for n in range(1, synchronised + 1)]
    assert all(gap.first > synchronised for gap in gaps)
    assert tail.ended


def lose_sectors(path: Path, start: int, drawn: random.Random) -> None:
    content = bytearray(path.read_bytes())
    for sector in range(start // 512, len(content) // 512):
        if drawn.random() < 0.3:
            begin = max(start, sector * 512)
            content[begin : (sector + 1) * 512] = bytes((sector + 1) * 512 - begin)
    path.write_bytes(content)


def test_a_frame_that_is_not_whole_is_waited_for_while_its_writer_lives(tmp_path: Path) -> None:
    spool = Spool(tmp_path, segment_bytes=SEGMENT, limit_bytes=LIMIT)
    stored(spool, outcome(1), NOW_US, 5)
    tail = Tail(tmp_path, spool.writer)
    os.pwrite(spool._descriptor, b"\x40\0\0\0half", spool._offset)
    assert read_all(tail) == ([outcome(1)], [])
    assert tail.read(9) is None
    assert not tail.ended
    stored(spool, outcome(2), NOW_US, 5)
    assert read_all(tail) == ([outcome(2)], [])
    tail.close()
    spool.close()


def test_segments_are_deleted_once_all_of_them_is_recorded(tail: Tail) -> None:
    firsts = segments(tail.folder)
    tail.release(firsts[1] - 2)
    assert segments(tail.folder) == firsts
    tail.release(firsts[1] - 1)
    assert segments(tail.folder) == firsts[1:]
    read_all(tail)
    tail.release(NUMBER - 1)
    assert segments(tail.folder) == firsts[-1:]
    tail.release(NUMBER)
    assert not segments(tail.folder)


def test_the_segment_of_a_living_writer_stays(tmp_path: Path) -> None:
    spool = Spool(tmp_path, segment_bytes=SEGMENT, limit_bytes=LIMIT)
    stored(spool, outcome(1), NOW_US, 5)
    tail = Tail(tmp_path, spool.writer)
    read_all(tail)
    tail.release(1)
    assert segments(tail.folder) == [1]
    tail.close()
    spool.close()


def test_a_folder_with_something_else_in_it_stays(tail: Tail) -> None:
    read_all(tail)
    tail.release(NUMBER)
    (tail.folder / "notes").touch()
    with pytest.raises(OSError, match="not empty"):
        tail.remove()
    assert (tail.folder / "notes").exists()


def test_the_oldest_that_waits_is_told_without_being_taken(tail: Tail) -> None:
    assert tail.oldest_us() == NOW_US + 1
    limit = segments(tail.folder)[1] - 1
    for _ in range(2):
        tail.read(limit)
    after = 2 * limit + 1
    assert tail.oldest_us() == NOW_US + after
    assert tail.oldest_us() == NOW_US + after
    tail.back()
    assert tail.oldest_us() == NOW_US + limit + 1
    read_all(tail)
    assert tail.oldest_us() is None


def test_nothing_waits_while_a_writer_that_lives_has_been_read(tmp_path: Path) -> None:
    spool = Spool(tmp_path, segment_bytes=SEGMENT, limit_bytes=LIMIT)
    tail = Tail(tmp_path, spool.writer)
    for number in range(1, 4):
        stored(spool, outcome(number), NOW_US + number, 1)
        assert tail.oldest_us() == NOW_US + number
        assert tail.read(10) is not None
        assert tail.oldest_us() is None
    tail.close()
    spool.close()
