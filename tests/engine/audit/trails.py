"""A drainer that runs beside a test, and what is then found in the database."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import psycopg

from engine.audit.chain import EMPTY, START, Link, body, leaf_hash, next_link, root_of
from engine.audit.drain import Drainer
from engine.audit.evidence import Evidence
from engine.audit.outcome import COLUMNS, Outcome, encode, writer_and_sequence
from engine.audit.rows import outcome_id
from engine.audit.verify import Summary, verify
from engine.settings import Audit, Durability
from zt.decide import Verdict
from zt.model import Phase

EPOCH = "(extract(epoch FROM time) * 1000000)::bigint"


def an_outcome(number: int = 0, verdict: Verdict = Verdict.ALLOW) -> Outcome:
    return Outcome(
        verdict=verdict,
        would_be=Verdict.DENY,
        phase=Phase.OBSERVE,
        source_id=None if number % 3 == 0 else f"spiffe://hanzo.ai/east/shop/{number % 5}",
        source_pod=f"pod-{number}",
        source_node=None,
        destination_id="spiffe://hanzo.ai/east/shop/db \u00e9\u4e2d\U0001f600",
        destination_port=5432,
        rule="default",
        reason="no_rule",
        layer="evaluator",
        revision="0123456789abcdef",
        on_behalf_of=None if number % 2 else 'agent:"\\ 1',
    )


def as_writer(admin: str) -> str:
    """With the rights of the writer's role and no more."""
    return f"{admin} options='-c role=zt_writer'"


def settings(dsn: str, checkpoints: Path | None = None, key: Path | None = None) -> Audit:
    return Audit(dsn, Durability.PROCESS, 1 << 20, 1 << 30, checkpoints, key)


@contextmanager
def draining(root: Path, audit: Audit, at_end: Callable[[], None] | None = None) -> Iterator[None]:
    """Drain ``root/spool`` beside; at the end all that is there, unless that fails."""
    told = threading.Event()
    failures: list[BaseException] = []

    def drain() -> None:
        try:
            Drainer(root / "spool", audit, root).drain(told.is_set)
        except BaseException as error:  # noqa: BLE001 - told in the test's thread
            failures.append(error)

    thread = threading.Thread(target=drain)
    thread.start()
    try:
        yield
    finally:
        if at_end:
            at_end()
        told.set()
        thread.join()
    assert not failures


def drain(root: Path, audit: Audit) -> None:
    """Drain what is there."""
    Drainer(root / "spool", audit, root).drain(lambda: True)


@dataclass(frozen=True)
class Trail:
    """What the database has, by a superuser's connection string."""

    admin: str

    def recorded(self) -> dict[int, list[tuple[int, int, int, bytes]]]:
        """Of each writer its records in order: sequence, time, latency, encoded outcome."""
        found: dict[int, list[tuple[int, int, int, bytes]]] = {}
        columns = ", ".join(COLUMNS)
        query = f"SELECT id, {EPOCH}, latency_us, {columns} FROM zt_audit.trail ORDER BY id"  # noqa: S608 - our own
        for identifier, time_us, latency_us, *values in self.rows(query):
            writer, sequence = writer_and_sequence(identifier)
            outcome = encode(Outcome(*values))
            found.setdefault(writer, []).append((sequence, time_us, latency_us, outcome))
        return found

    def sequences(self, writer: int) -> list[int]:
        return [record[0] for record in self.recorded().get(writer, [])]

    def check(self) -> None:
        """The ledger is whole, and its hashes are those of the records."""
        recorded = {
            writer: {record[0]: record for record in records}
            for writer, records in self.recorded().items()
        }
        chain, number, last = START, 0, Counter[int]()
        for batch in self.rows(
            "SELECT number, writer, first, last, since, until, root, chain"
            " FROM zt_audit.batch ORDER BY number"
        ):
            link = Link(*batch[:-1])
            assert link.number == (number := number + 1)
            assert link.first == last[link.writer] + 1
            last[link.writer] = link.last
            records = recorded.get(link.writer, {})
            found = [records.pop(at) for at in range(link.first, link.last + 1) if at in records]
            assert link.root == root_of([leaf_hash(link.writer, body(*one)) for one in found])
            assert len(found) == (0 if link.root == EMPTY else link.last - link.first + 1)
            chain = next_link(chain, link)
            assert chain == batch[-1]
        assert not any(recorded.values())
        with closing(Evidence.at(self.admin).connection) as connection:
            assert list(verify(Evidence(connection), [], Summary())) == []

    def edges(self, span: str) -> list[Any]:
        return self.rows(
            "SELECT source_id, destination_port, allowed, denied, would_deny FROM"  # noqa: S608 - ours
            f" zt_audit.edge_count WHERE span = '{span}' ORDER BY 1, 2"
        )

    def rows(self, query: str) -> list[Any]:
        with psycopg.connect(self.admin) as connection:
            return connection.execute(query.encode()).fetchall()

    def execute(self, statement: str) -> None:
        with psycopg.connect(self.admin, autocommit=True) as connection:
            connection.execute(statement.encode())


def status(root: Path) -> dict[str, Any]:
    """What the drainer says; nothing before it said anything."""
    said: dict[str, Any] = {"error": None, "oldest": None}
    with suppress(FileNotFoundError):
        said |= orjson.loads((root / "audit.json").read_bytes())
    return said


def ids_are_of_encodings(trail: Trail) -> bool:
    columns = ", ".join(COLUMNS)
    rows = trail.rows(f"SELECT id, {columns} FROM zt_audit.outcome")  # noqa: S608 - our own
    return all(row[0].bytes == outcome_id(encode(Outcome(*row[1:]))) for row in rows)
