"""``zt audit`` on a real PostgreSQL."""

import gzip
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import sleep

import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from psycopg import sql
from psycopg.conninfo import make_conninfo

from engine.audit import checkpoint
from engine.audit.checkpoint import Checkpoint
from engine.audit.export import audit_json
from engine.audit.outcome import AuditRecord
from tests.engine.audit.ledger import DENIED, OUTCOME, Ledger, now
from tests.engine.conftest import Database
from zt.cli import zt

Run = Callable[..., Result]
START = now()
OBSERVED = OUTCOME._replace(would_be=DENIED.verdict, source_id=None, source_pod=None)


@pytest.fixture
def ledger(database: Database) -> Iterator[Ledger]:
    ledger = Ledger.of(database.admin)
    ledger.days(START.date() - timedelta(days=2), 4)
    yield ledger
    ledger.close()


@pytest.fixture
def records(ledger: Ledger) -> list[AuditRecord]:
    """Three, the latest first."""
    at = START - timedelta(hours=25)
    added = ledger.add(
        (at, OUTCOME), (START, DENIED), (START + timedelta(microseconds=1), OBSERVED)
    )
    return added[::-1]


@pytest.fixture
def run(database: Database) -> Run:
    """``run("query", "--limit", "1")``, as the role that reads."""

    def invoke(*arguments: str, dsn: str | None = database.dsn) -> Result:
        environment = {"ZT_AUDIT_DSN": dsn}
        return CliRunner().invoke(zt, ["audit", *arguments], env=environment)

    return invoke


@pytest.mark.usefixtures("records")
def test_query_shows_a_table(run: Run) -> None:
    result = run("query")
    assert result.exit_code == 0, result.output
    head, first, second, third = result.stdout.splitlines()
    assert head.split() == ["time", "decision", "from", "to", "rule", "reason", "layer"]
    assert "ALLOW, would be DENY  nobody " in first
    assert "DENY " in second
    assert f"{OUTCOME.source_id} (web-1)" in third
    assert f"{OUTCOME.destination_id}:5432" in third
    assert result.stderr == ""


def test_query_answers_in_json_as_the_api_does(run: Run, records: list[AuditRecord]) -> None:
    result = run("query", "--json", "--verdict", "deny")
    expected = {"records": [audit_json(records[1])], "next": None}
    assert json.loads(result.stdout) == json.loads(json.dumps(expected))


def test_pages_follow_by_cursor(run: Run, records: list[AuditRecord]) -> None:
    first = run("query", "--limit", "2")
    cursor = first.stderr.split("--cursor ")[1].strip()
    second = json.loads(run("query", "--limit", "2", "--json", "--cursor", cursor).stdout)
    assert [record["id"] for record in second["records"]] == [str(records[2].id)]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--since", "24h"), 2),
        (("--until", "1d"), 1),
        (("--since", START.isoformat()), 2),
        (("--since", START.isoformat(), "--until", START.isoformat()), 0),
        (("--since", f"{START.date() + timedelta(days=1)}"), 0),
        (("--since", START.replace(tzinfo=None).isoformat()), 2),
        (("--source", ""), 1),
        (("--source", OUTCOME.source_id, "--destination", OUTCOME.destination_id), 2),
        (("--rule", "default", "--reason", "rule", "--layer", "evaluator", "--pod", "web-1"), 1),
    ],
)
@pytest.mark.usefixtures("records")
def test_filters_choose(run: Run, arguments: tuple[str, ...], expected: int) -> None:
    result = run("export", *arguments)
    assert result.exit_code == 0, result.output
    assert len(result.stdout.splitlines()) == expected
    assert result.stderr == f"{expected} record{'s' * (expected != 1)}\n"


def test_export_has_the_records_of_the_api(
    run: Run, records: list[AuditRecord], tmp_path: Path
) -> None:
    lines = [json.loads(json.dumps(audit_json(record))) for record in records]
    assert [json.loads(line) for line in run("export").stdout.splitlines()] == lines
    path = tmp_path / "out.ndjson.gz"
    result = run("export", str(path))
    assert (result.stdout, result.stderr) == ("", "3 records\n")
    assert [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()] == lines


def test_what_cannot_be_written_is_told(run: Run, tmp_path: Path) -> None:
    result = run("export", str(tmp_path / "nowhere" / "out"))
    assert result.exit_code == 2
    assert "out can't be written: No such file or directory" in result.stderr


def test_verify_proves_an_untouched_trail(run: Run, records: list[AuditRecord]) -> None:
    result = run("verify")
    assert result.exit_code == 0, result.output
    proved = f"0 findings in 1 batch and 3 outcomes; {len(records)} records proved"
    assert proved in result.stdout
    assert "no checkpoints: the owner of the database could have rewritten" in result.stdout


@pytest.mark.usefixtures("records")
def test_verify_tells_findings(run: Run, ledger: Ledger) -> None:
    tamper(ledger)
    result = run("verify")
    assert result.exit_code == 1
    assert "error root: the records of batch 1 are not those that were written" in result.stdout
    found = json.loads(run("verify", "--json").stdout)
    assert [finding["kind"] for finding in found["findings"]] == ["root"]
    assert found["summary"]["findings"] == {"root": 1}
    assert found["summary"]["batches"] == 1


def tamper(ledger: Ledger) -> None:
    ledger.connection.execute("ALTER TABLE zt_audit.decision DISABLE TRIGGER ALL")
    ledger.connection.execute("UPDATE zt_audit.decision SET latency_us = 1")


@pytest.mark.usefixtures("records")
def test_verify_compares_checkpoints(run: Run, ledger: Ledger, tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    public, folder = tmp_path / "audit.pub", tmp_path / "checkpoints"
    public.write_bytes(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    folder.mkdir()
    arguments = ("verify", "--checkpoints", str(folder), "--key", str(public))
    assert "holds no checkpoints" in run(*arguments).stderr
    assert "belong together" in run(*arguments[:3]).stderr
    row = ledger.connection.execute("SELECT number, chain FROM zt_audit.batch").fetchone()
    assert row is not None
    checkpoint.write(folder, Checkpoint(*row), key)
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    assert "1 checkpoint, good until batch 1 of 1" in result.stdout
    checkpoint.write(folder, Checkpoint(1, bytes(32)), key)
    result = run(*arguments)
    assert result.exit_code == 1
    assert "error checkpoint: the checkpoint of batch 1 has another chain" in result.stdout
    checkpoint.write(folder, Checkpoint(1, bytes(32)), Ed25519PrivateKey.generate())
    result = run(*arguments)
    assert result.exit_code == 2
    assert "signed with another key" in result.stderr


COMMANDS = (("query",), ("export",), ("verify",))


@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_wrong_with_the_database_is_one_sentence(
    run: Run, database: Database, ledger: Ledger, tmp_path: Path, command: tuple[str, ...]
) -> None:
    """Exit code 2, what helps, and never the DSN, which may carry a password."""
    stranger = f"stranger_{database.name}"
    ledger.connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(stranger)))
    for dsn, expected in (
        (None, "ZT_AUDIT_DSN is not set"),
        ("secret", "ZT_AUDIT_DSN is no DSN"),
        ("postgresql://me:secret@:nonsense/db", "can't be reached"),
        (f"host={tmp_path} user=me password=secret", "can't be reached"),
        (make_conninfo(database.admin, dbname="template1"), "has no audit schema"),
        (make_conninfo(database.admin, user=stranger, password="secret"), "grant it zt_reader"),
    ):
        result = run(*command, dsn=dsn)
        assert result.exit_code == 2, (dsn, result.output)
        assert expected in result.stderr
        assert result.stderr.count("\n") == 1
        assert "secret" not in result.output
    ledger.connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(stranger)))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("query", "--since", "yesterday"), "'yesterday' is not a time such as"),
        (("query", "--since", "999999w"), "is not a time such as"),
        (("query", "--cursor", "x"), "the cursor should be the 'next' of an earlier page"),
        (("query", "--limit", "0"), "0 is not in the range"),
        (("export", "--verdict", "MAYBE"), "MAYBE"),
    ],
)
def test_misuse_is_told(run: Run, arguments: tuple[str, ...], expected: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert expected in result.stderr


@pytest.mark.parametrize("command", ["query", "export", "verify"])
def test_help_has_an_example(run: Run, command: str) -> None:
    assert f"Example:\n    zt audit {command} " in run(command, "--help").stdout


def test_an_interruption_leaves_nothing(database: Database, ledger: Ledger, tmp_path: Path) -> None:
    """While it waits for the database."""
    ledger.add((START, OUTCOME))
    with ledger.connection.transaction():
        ledger.connection.execute("LOCK TABLE zt_audit.decision IN ACCESS EXCLUSIVE MODE")
        process = subprocess.Popen(
            [sys.executable, "-c", "from zt.cli import main; main()", "audit", "export", "out.gz"],
            cwd=tmp_path,
            env={"ZT_AUDIT_DSN": database.dsn},
            stderr=subprocess.PIPE,
            text=True,
        )
        deadline = datetime.now(UTC) + timedelta(seconds=20)
        while not list(tmp_path.iterdir()) and datetime.now(UTC) < deadline:
            sleep(0.02)
        sleep(0.3)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=20)
    assert (process.returncode, stderr.strip()) == (130, "")
    assert list(tmp_path.iterdir()) == []
