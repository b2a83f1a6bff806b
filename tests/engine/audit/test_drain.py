import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from engine.audit import checkpoint, database, drain, link
from engine.audit.database import Head, TrailDatabase
from engine.audit.drain import SecondDrainerError
from engine.audit.layout import COMMITTED, PROGRESS, QUARANTINE, listen, lock, segments, writers
from engine.audit.outcome import encode
from engine.audit.rows import DAY_US, Batch
from engine.audit.spool import Spool
from engine.settings import Audit
from tests import waiting
from tests.engine.audit import trails
from tests.engine.audit.spools import settled
from tests.engine.audit.trails import Trail, an_outcome, as_writer, draining, status
from tests.engine.conftest import Database
from zt.decide import Verdict

SEGMENT = 1 << 16
eventually = partial(waiting.eventually, patience=15.0, pause=0.01)
# A process of its own: it is killed.
DRAIN = """
import pathlib, sys
from engine.audit import drain
from engine.settings import Audit, Durability
root, dsn = pathlib.Path(sys.argv[1]), sys.argv[2]
drain.PAUSE, drain.BATCH = 0.01, 200
drain.run(root / "spool", Audit(dsn, Durability.PROCESS, 1 << 16, 1 << 30, None, None), root)
"""


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, value in (
        (drain, "PAUSE", 0.01),
        (drain, "_REPORT", 0.01),
        (link, "_LONGEST_PAUSE", 0.1),
    ):
        monkeypatch.setattr(module, name, value)


@pytest.fixture
def trail(database: Database) -> Trail:
    return Trail(database.admin)


@pytest.fixture
def audit(database: Database) -> Audit:
    return trails.settings(as_writer(database.admin))


def now_us() -> int:
    return time.time_ns() // 1000


def new_spool(root: Path) -> Spool:
    spool = Spool(root / "spool", segment_bytes=SEGMENT, limit_bytes=1 << 30)
    settled(spool)
    return spool


def append(
    spool: Spool, number: int, time_us: int | None = None
) -> list[tuple[int, int, int, bytes]]:
    """Append some records; as the trail should have them."""
    made = []
    for index in range(number):
        outcome = encode(an_outcome(index % 20))
        at = now_us() if time_us is None else time_us
        while True:
            try:
                sequence = spool.append(outcome, at, index)
            except BlockingIOError:
                continue
            break
        made.append((sequence, at, index, outcome))
    return made


def test_all_that_is_appended_comes_into_the_trail(
    tmp_path: Path, trail: Trail, audit: Audit
) -> None:
    spools = [new_spool(tmp_path) for _ in range(3)]
    with draining(tmp_path, audit):
        wanted = {spool.writer: append(spool, 3000) for spool in spools}
        eventually(lambda: sum(map(len, trail.recorded().values())) == 9000)
        assert all(len(segments(spool.folder)) == 1 for spool in spools)
        for spool in spools:
            wanted[spool.writer] += append(spool, 50)
            spool.close()
    assert trail.recorded() == wanted
    trail.check()
    assert trails.ids_are_of_encodings(trail)
    assert not writers(tmp_path / "spool")
    assert status(tmp_path) | {"last_commit": 0} == {
        "rows": 9150,
        "last_commit": 0,
        "oldest": None,
        "error": None,
        "lost": 0,
        "redated": 0,
    }


def test_edges_are_counted(tmp_path: Path, trail: Trail, audit: Audit) -> None:
    spool = new_spool(tmp_path)
    for verdict, number in ((Verdict.ALLOW, 70), (Verdict.DENY, 30)):
        for _ in range(number):
            spool.append(encode(an_outcome(3, verdict)), now_us(), 1)
            spool.append(encode(an_outcome(4, verdict)), now_us() - 5 * DAY_US, 1)
    spool.close()
    trails.drain(tmp_path, audit)
    named = "spiffe://hanzo.ai/east/shop/4"
    for span in ("hour", "day", "ever"):
        assert trail.edges(span) == [("", 5432, 70, 30, 70), (named, 5432, 70, 30, 70)]
    times = trail.rows("SELECT DISTINCT last_seen FROM zt_audit.edge_count")
    assert sorted(times) == trail.rows(
        "SELECT max(time) FROM zt_audit.trail GROUP BY source_id ORDER BY 1"
    )


def test_a_commit_whose_answer_was_lost_is_not_repeated(
    tmp_path: Path, trail: Trail, audit: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = TrailDatabase.write
    turns = iter(range(1000))

    def deaf(self: TrailDatabase, writer: int, batch: Batch) -> Head:
        head = write(self, writer, batch)
        if next(turns) % 3 != 2:
            raise psycopg.OperationalError("the connection is lost")
        return head

    monkeypatch.setattr(TrailDatabase, "write", deaf)
    monkeypatch.setattr(drain, "BATCH", 100)
    spool = new_spool(tmp_path)
    wanted = append(spool, 950)
    spool.close()
    trails.drain(tmp_path, audit)
    assert trail.recorded() == {spool.writer: wanted}
    trail.check()


def test_a_batch_that_a_lost_connection_commits_late_is_not_repeated(
    tmp_path: Path, trail: Trail, audit: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = TrailDatabase.write

    def twice(self: TrailDatabase, writer: int, batch: Batch) -> Head:
        write(self, writer, batch)
        return write(self, writer, batch)

    monkeypatch.setattr(TrailDatabase, "write", twice)
    spool = new_spool(tmp_path)
    wanted = append(spool, 100)
    spool.close()
    trails.drain(tmp_path, audit)
    assert trail.recorded() == {spool.writer: wanted}
    trail.check()


def test_connections_that_are_cut_all_the_time_cost_no_record(
    tmp_path: Path, trail: Trail, audit: Audit
) -> None:
    cut = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'zt-drainer' AND datname = current_database()"
    )
    spool = new_spool(tmp_path)
    wanted = []
    with draining(tmp_path, audit):
        for _ in range(20):
            wanted += append(spool, 300)
            trail.rows(cut)
        spool.close()
    assert trail.recorded() == {spool.writer: wanted}
    trail.check()


def test_a_second_drainer_is_refused(tmp_path: Path, audit: Audit) -> None:
    (tmp_path / "spool").mkdir()
    held = lock(tmp_path / "spool")
    assert held is not None
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(SecondDrainerError, match="another drainer has"):
            drain.run(tmp_path / "spool", audit, tmp_path)
    finally:
        os.close(held)
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGINT, before[1])


def test_partitions_are_made_for_clocks_that_are_wrong(
    tmp_path: Path, trail: Trail, audit: Audit
) -> None:
    spool = new_spool(tmp_path)
    wanted = []
    for days in (0, -40, 20, -364, 0):
        wanted += append(spool, 3, now_us() + days * DAY_US)
    spool.close()
    trails.drain(tmp_path, audit)
    assert trail.recorded() == {spool.writer: wanted}
    trail.check()


def test_a_partition_that_went_away_is_made_again(
    tmp_path: Path, trail: Trail, audit: Audit
) -> None:
    spool = new_spool(tmp_path)
    with draining(tmp_path, audit):
        append(spool, 10)
        eventually(lambda: len(trail.sequences(spool.writer)) == 10)
        trail.execute(f"DROP TABLE zt_audit.decision_{time.strftime('%Y%m%d', time.gmtime())}")
        wanted = append(spool, 10)
        eventually(lambda: len(trail.sequences(spool.writer)) == 10)
        spool.close()
    assert trail.recorded() == {spool.writer: wanted}


@pytest.mark.parametrize("far", [0, -(1 << 63), (1 << 63) - 1, 32_503_680_000_000_000])
def test_a_time_that_the_trail_does_not_take_keeps_nothing_back(
    tmp_path: Path, trail: Trail, audit: Audit, far: int
) -> None:
    spool = new_spool(tmp_path)
    wanted = append(spool, 5) + append(spool, 2, far) + append(spool, 5)
    spool.close()
    before = now_us()
    trails.drain(tmp_path, audit)
    found = trail.recorded()[spool.writer]
    assert found[:5] + found[7:] == wanted[:5] + wanted[7:]
    assert all(before - 2_000_000 < record[1] < now_us() + 2_000_000 for record in found[5:7])
    assert status(tmp_path)["redated"] == 2
    trail.check()


def test_a_record_that_the_database_refuses_is_put_aside(
    tmp_path: Path, trail: Trail, audit: Audit
) -> None:
    good = an_outcome(1)
    bad = {
        20: encode(good._replace(destination_port=70_000)),
        21: encode(good._replace(reason="nul \0")),
        50: b'["MAYBE"]',
        51: b"no JSON",
    }
    spool = new_spool(tmp_path)
    for sequence in range(1, 61):
        assert spool.append(bad.get(sequence, encode(good)), now_us(), 1) == sequence
    spool.close()
    trails.drain(tmp_path, audit)
    assert trail.sequences(spool.writer) == [n for n in range(1, 61) if n not in bad]
    trail.check()
    kept = tmp_path / "spool" / QUARANTINE
    for sequence, outcome in bad.items():
        path = kept / f"{spool.folder.name}-{sequence}.record"
        assert path.read_bytes().endswith(outcome)
    assert len(list(kept.iterdir())) == len(bad)
    assert status(tmp_path)["lost"] == len(bad)


def test_lost_records_are_in_the_ledger(tmp_path: Path, trail: Trail, audit: Audit) -> None:
    spool = new_spool(tmp_path)
    append(spool, 1000)
    spool.close()
    _, second, third, *_ = segments(spool.folder)
    (spool.folder / f"{second:020}.segment").unlink()
    trails.drain(tmp_path, audit)
    assert trail.sequences(spool.writer) == [*range(1, second), *range(third, 1001)]
    trail.check()
    assert status(tmp_path)["lost"] == third - second


def test_a_revoked_right_is_waited_for_and_told_once(
    tmp_path: Path, trail: Trail, audit: Audit, caplog: pytest.LogCaptureFixture
) -> None:
    trail.execute("REVOKE INSERT ON zt_audit.decision FROM zt_writer")
    spool = new_spool(tmp_path)
    with draining(tmp_path, audit):
        wanted = append(spool, 100)
        eventually(lambda: "permission denied" in str(status(tmp_path)["error"]))
        assert status(tmp_path)["oldest"] == pytest.approx(wanted[0][1] / 1e6)
        time.sleep(0.5)
        trail.execute("GRANT INSERT ON zt_audit.decision TO zt_writer")
        eventually(lambda: len(trail.sequences(spool.writer)) == 100)
        spool.close()
    assert trail.recorded() == {spool.writer: wanted}
    messages = [record.message for record in caplog.records if record.name == "engine.audit.link"]
    assert len([message for message in messages if "not written" in message]) == 1
    assert status(tmp_path)["error"] is None


def test_a_frozen_server_is_given_up(
    tmp_path: Path, trail: Trail, audit: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "PATIENCE", 0.3)
    backend = (
        "SELECT pid FROM pg_stat_activity"
        " WHERE application_name = 'zt-drainer' AND datname = current_database()"
    )
    spool = new_spool(tmp_path)
    with draining(tmp_path, audit):
        wanted = append(spool, 10)
        eventually(lambda: len(trail.sequences(spool.writer)) == 10)
        ((frozen,),) = trail.rows(backend)
        assert isinstance(frozen, int)
        os.kill(frozen, signal.SIGSTOP)
        try:
            wanted += append(spool, 10)
            eventually(lambda: len(trail.sequences(spool.writer)) == 20)
        finally:
            os.kill(frozen, signal.SIGCONT)
        wanted += append(spool, 10)
        spool.close()
    assert trail.recorded() == {spool.writer: wanted}
    trail.check()


def test_what_cannot_be_drained_in_time_stays(
    tmp_path: Path, trail: Trail, audit: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain, "GRACE", 0.3)
    away = trails.settings("host=127.0.0.1 port=1 dbname=none")
    spool = new_spool(tmp_path)
    wanted = append(spool, 1000)
    spool.close()
    started = time.monotonic()
    trails.drain(tmp_path, away)
    assert time.monotonic() - started < 3
    assert status(tmp_path)["oldest"] == pytest.approx(wanted[0][1] / 1e6)
    assert status(tmp_path)["error"]
    trails.drain(tmp_path, audit)
    assert trail.recorded() == {spool.writer: wanted}


def test_a_writer_is_told_what_is_committed(tmp_path: Path, trail: Trail, audit: Audit) -> None:
    spool = new_spool(tmp_path)
    with listen(spool.folder, COMMITTED) as worker:
        worker.settimeout(5)
        append(spool, 5)
        spool.append(b"unfit", now_us(), 1)
        append(spool, 5)
        told = []
        with draining(tmp_path, audit):
            while (6, 11) not in told:
                told.append(PROGRESS.unpack(worker.recv(64)))
    assert told == sorted(told)
    assert len(trail.sequences(spool.writer)) == 10
    spool.close()


def test_the_chain_is_signed(tmp_path: Path, trail: Trail, database: Database) -> None:
    folder, path = tmp_path / "checkpoints", tmp_path / "key.pem"
    folder.mkdir()
    key = Ed25519PrivateKey.generate()
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    spool = new_spool(tmp_path)
    append(spool, 100)
    spool.close()
    trails.drain(tmp_path, trails.settings(as_writer(database.admin), folder, path))
    *_, last = checkpoint.read(folder, key.public_key())
    query = "SELECT number, chain FROM zt_audit.batch ORDER BY 1 DESC LIMIT 1"
    assert [(last.number, last.chain)] == trail.rows(query)


def start(root: Path, dsn: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", DRAIN, str(root), dsn]
    return subprocess.Popen(command, cwd=Path(__file__).parents[3])


def test_a_drainer_that_is_killed_again_and_again_moves_each_record_once(
    tmp_path: Path, trail: Trail, database: Database
) -> None:
    spool = new_spool(tmp_path)
    wanted = []
    for turn in range(4):
        drainer = start(tmp_path, as_writer(database.admin))
        wanted += append(spool, 2000)
        before = len(trail.sequences(spool.writer))
        eventually(lambda before=before: len(trail.sequences(spool.writer)) > before)  # type: ignore[misc] # a default
        time.sleep(0.01 * turn)
        drainer.kill()
        drainer.wait()
    spool.close()
    drainer = start(tmp_path, as_writer(database.admin))
    eventually(lambda: not writers(tmp_path / "spool"))
    drainer.terminate()
    assert drainer.wait(10) == 0
    assert trail.recorded() == {spool.writer: wanted}
    assert not writers(tmp_path / "spool")
    trail.check()
