"""What goes wrong between a decision and its row: acknowledged records are counted against rows."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.lab.engine.audit_parts import (
    Bench,
    Server,
    memory,
    server,
    small_disk,
    spooled,
    wait_until,
)

pytestmark = pytest.mark.timeout(170)

OUTAGE = 60.0
# What a batch of records and a new connection may take beside what is there before; MiB.
GROWTH = 24.0


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    with server() as made:
        yield made


@pytest.fixture
def bench(running: Server, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path, running)
    yield made
    made.close()


def outage(bench: Bench, drainer: int, seconds: float) -> None:
    """The drainer says what is wrong, and takes no more memory while records pile up."""
    time.sleep(3)
    before = memory(drainer)
    highest = before
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(0.5)
        highest = max(highest, memory(drainer))
    assert bench.status()["error"]
    assert highest < before + GROWTH


def test_the_database_is_stopped(bench: Bench) -> None:
    generator, drainer = bench.generate(), bench.drain()
    time.sleep(2)
    bench.server.stop()
    outage(bench, drainer.pid, OUTAGE)
    bench.server.start()
    time.sleep(2)
    bench.expect_all(generator.stop())


def test_the_database_is_frozen(bench: Bench) -> None:
    generator, drainer = bench.generate(), bench.drain()
    time.sleep(2)
    bench.server.signal_all(signal.SIGSTOP)
    try:
        time.sleep(16)
        outage(bench, drainer.pid, OUTAGE - 19)
    finally:
        bench.server.signal_all(signal.SIGCONT)
    time.sleep(2)
    bench.expect_all(generator.stop())


def test_the_database_is_restarted_again_and_again(bench: Bench) -> None:
    generator = bench.generate()
    bench.drain()
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGQUIT):
        time.sleep(3)
        bench.server.stop(number)
        bench.server.start()
    time.sleep(1)
    bench.expect_all(generator.stop())


def test_the_databases_disk_is_full(tmp_path: Path) -> None:
    with (
        TemporaryDirectory(prefix="zt-disk-") as place,
        small_disk(Path(place), "120m") as disk,
        server(disk / "home") as small,
    ):
        bench = Bench(tmp_path, small)
        generator, drainer = bench.generate(), bench.drain()
        time.sleep(2)
        ballast = disk / "ballast"
        fill(ballast)
        outage(bench, drainer.pid, 30)
        ballast.unlink()
        if not small.is_running():
            small.start()
        time.sleep(2)
        bench.expect_all(generator.stop())
        bench.close()


def fill(path: Path) -> None:
    """Take all the room that there is."""
    with path.open("wb", buffering=0) as file:
        while True:
            try:
                file.write(bytes(1 << 16))
            except OSError:
                return


def test_a_right_is_revoked(bench: Bench) -> None:
    generator, drainer = bench.generate(), bench.drain()
    time.sleep(1)
    bench.server.execute("REVOKE INSERT ON zt_audit.decision FROM zt_writer")
    outage(bench, drainer.pid, 10)
    bench.server.execute("GRANT INSERT ON zt_audit.decision TO zt_writer")
    time.sleep(1)
    bench.expect_all(generator.stop())


def test_a_partition_is_missing(bench: Bench) -> None:
    """Dropped while nothing is in it, as whoever owns it may."""
    today = time.strftime("%Y%m%d", time.gmtime())
    bench.server.execute(f"DROP TABLE IF EXISTS zt_audit.decision_{today}")
    generator = bench.generate()
    bench.drain()
    time.sleep(4)
    bench.expect_all(generator.stop())


def test_the_spools_disk_is_full(running: Server, tmp_path: Path) -> None:
    with small_disk(tmp_path, "6m") as state:
        bench = Bench(state, running)
        bench.server.stop()
        generator = bench.generate(8000)
        wait_until(lambda: len(list((state / "spool").glob("*/*.segment"))) >= 5)
        time.sleep(3)
        full = generator.acknowledged()
        drainer = bench.drain()
        outage(bench, drainer.pid, 5)
        assert generator.acknowledged() == full
        bench.server.start()
        wait_until(lambda: generator.acknowledged() > full)
        told = generator.stop()
        assert told["failures"] > 0
        bench.expect_all(told)
        bench.close()


def test_synchronisation_fails(bench: Bench) -> None:
    """Each record is synchronised before it is acknowledged; every twentieth time that fails."""
    generator = bench.generate(1000, failing=20)
    bench.drain()
    time.sleep(8)
    told = generator.stop()
    assert told["failures"] > 20
    bench.expect_all(told)


def test_the_clock_is_stepped(bench: Bench) -> None:
    generator = bench.generate(4000, clock=1)
    bench.drain()
    wait_until(lambda: generator.acknowledged() > 14_000)
    time.sleep(1)
    told = generator.stop()
    bench.expect_all(told)
    redated = bench.status()["redated"]
    assert isinstance(redated, int)
    assert redated >= 2 * 1500


def test_the_drainer_is_killed_again_and_again(bench: Bench) -> None:
    generator = bench.generate(5000)
    for turn in range(20):
        drainer = bench.drain()
        time.sleep(0.8 + 0.05 * turn)
        drainer.kill()
        drainer.wait()
    bench.drain()
    bench.expect_all(generator.stop())


def test_the_drainer_ends_with_everything_drained(bench: Bench) -> None:
    """As the evaluator ends: its workers first."""
    generator, drainer = bench.generate(5000), bench.drain()
    time.sleep(2)
    told = generator.stop()
    drainer.terminate()
    assert drainer.wait(25) == 0
    assert not spooled(bench.root)
    bench.expect_all(told)
