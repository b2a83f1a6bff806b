import asyncio
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.audit import durability
from engine.audit.durability import Level, durability_of
from engine.audit.layout import COMMITTED, HURRY, PROGRESS, listen, tell
from engine.audit.spool import Files, Spool
from engine.settings import Durability
from tests.engine.audit.spools import LIMIT, NOW_US, SEGMENT
from tests.engine.samples import eventually

pytestmark = pytest.mark.anyio


class Syncing:
    """An fdatasync that waits until it is let go, and fails on demand."""

    def __init__(self) -> None:
        self.turns = threading.Semaphore(0)
        self.calls = 0
        self.fails = False

    def __call__(self, descriptor: int) -> None:
        self.calls += 1
        assert self.turns.acquire(timeout=5)
        if self.fails:
            raise OSError(5, "Input/output error")
        os.fdatasync(descriptor)


@pytest.fixture
def syncing() -> Syncing:
    return Syncing()


@pytest.fixture
def spool(tmp_path: Path, syncing: Syncing) -> Iterator[Spool]:
    made = Spool(tmp_path, segment_bytes=SEGMENT, limit_bytes=LIMIT, files=Files(datasync=syncing))
    yield made
    syncing.fails = False
    for _ in range(100):
        syncing.turns.release()
    made.close()


class Answers:
    """What was settled, by sequence number."""

    def __init__(self, level: Level, spool: Spool) -> None:
        self.settled: dict[int, bool] = {}
        self.times: dict[int, float] = {}
        self._level = level
        self._spool = spool

    def append(self, number: int = 1) -> None:
        for _ in range(number):
            sequence = self._spool.append(b"[]", NOW_US, 1)
            self._level.when(sequence, self._settle(sequence))

    def _settle(self, sequence: int) -> Callable[[bool], None]:
        def settle(safe: bool) -> None:  # noqa: FBT001 - what is told
            assert sequence not in self.settled
            self.settled[sequence] = safe
            self.times[sequence] = time.monotonic()

        return settle

    async def until(self, number: int) -> dict[int, bool]:
        await eventually(lambda: len(self.settled) >= number)
        return self.settled


async def test_of_process_a_record_is_safe_once_it_is_appended(spool: Spool) -> None:
    level = durability_of(Durability.PROCESS, spool)
    answers = Answers(level, spool)
    assert level.immediate
    answers.append()
    assert answers.settled == {1: True}
    await level.close()


async def test_of_disk_records_share_a_synchronisation(spool: Spool, syncing: Syncing) -> None:
    level = durability_of(Durability.DISK, spool)
    answers = Answers(level, spool)
    assert not level.immediate
    answers.append()
    await eventually(lambda: syncing.calls > 0)
    answers.append(50)
    assert not answers.settled
    syncing.turns.release()
    assert await answers.until(1) == {1: True}
    syncing.turns.release()
    assert await answers.until(51) == dict.fromkeys(range(1, 52), True)
    assert syncing.calls == 2
    await level.close()


async def test_of_disk_nothing_is_safe_whose_synchronisation_fails(
    spool: Spool, syncing: Syncing, caplog: pytest.LogCaptureFixture
) -> None:
    level = durability_of(Durability.DISK, spool)
    answers = Answers(level, spool)
    syncing.fails = True
    answers.append(3)
    await eventually(lambda: syncing.calls > 0)
    answers.append(2)
    syncing.turns.release()
    assert await answers.until(5) == dict.fromkeys(range(1, 6), False)
    assert "can't be synchronised" in caplog.text
    syncing.fails = False
    answers.append()
    syncing.turns.release()
    syncing.turns.release()
    assert (await answers.until(6))[6]
    await level.close()


async def test_of_disk_a_slow_disk_is_not_waited_for(
    spool: Spool, syncing: Syncing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(durability, "PATIENCE", 0.05)
    level = durability_of(Durability.DISK, spool)
    answers = Answers(level, spool)
    answers.append()
    started = time.monotonic()
    await asyncio.sleep(0.03)
    answers.append()
    assert await answers.until(2) == {1: False, 2: False}
    assert 0.04 < answers.times[1] - started < 0.5
    assert answers.times[2] - started > 0.07
    syncing.turns.release()
    await level.close()


async def test_of_db_a_record_is_safe_once_the_drainer_says_so(
    spool: Spool, tmp_path: Path
) -> None:
    with listen(tmp_path, HURRY) as drainer:
        level = durability_of(Durability.DB, spool)
        answers = Answers(level, spool)
        answers.append(5)
        await asyncio.sleep(0.01)
        assert drainer.recv(9) == b"!"
        assert not answers.settled
        say(drainer, spool, lost=0, recorded=3)
        assert await answers.until(3) == {1: True, 2: True, 3: True}
        say(drainer, spool, lost=4, recorded=5)
        assert await answers.until(5) == {1: True, 2: True, 3: True, 4: False, 5: True}
        await level.close()


async def test_of_db_nobody_waits_for_a_drainer_that_is_away(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(durability, "PATIENCE", 0.05)
    level = durability_of(Durability.DB, spool)
    answers = Answers(level, spool)
    answers.append(3)
    assert await answers.until(3) == dict.fromkeys((1, 2, 3), False)
    await level.close()


@pytest.mark.parametrize("name", [Durability.DISK, Durability.DB])
async def test_what_waits_at_the_end_is_not_safe(
    spool: Spool, syncing: Syncing, name: Durability
) -> None:
    level = durability_of(name, spool)
    answers = Answers(level, spool)
    syncing.fails = True
    answers.append(2)
    for _ in range(4):
        syncing.turns.release()
    await level.close()
    assert answers.settled == {1: False, 2: False}


async def test_a_long_path_is_no_hindrance(tmp_path: Path) -> None:
    """The address of a socket has room for 107 bytes."""
    root = tmp_path / ("x" * 120) / "spool"
    spool = Spool(root, segment_bytes=SEGMENT, limit_bytes=LIMIT)
    level = durability_of(Durability.DB, spool)
    answers = Answers(level, spool)
    with listen(root, HURRY) as drainer:
        answers.append()
        await asyncio.sleep(0.01)
        assert drainer.recv(9) == b"!"
        say(drainer, spool, lost=0, recorded=1)
        assert await answers.until(1) == {1: True}
    await level.close()
    spool.close()


def say(sender: socket.socket, spool: Spool, *, lost: int, recorded: int) -> None:
    tell(sender, spool.folder, COMMITTED, PROGRESS.pack(lost, recorded))
