"""What a change of 100,000 rules every second does to answers: ``python -m benchmarks.reload``.

Two compiled tables over the same services take turns as the policy. Each answer names
the revision that it was given by, and has to be that revision's. The same load runs without and
with changes, one after the other and several times: the ratio of the two p99s is the figure. The
worker has a core to itself, the load and the builder share the other one.
What the load waits for the builder there is no part of an answer, so a third run has a builder that
works as much, on tables that nobody serves.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import cycle
from pathlib import Path
from random import Random

import orjson

from benchmarks.engine.ours import OURS
from benchmarks.engine.processes import CLIENT_CORE, SERVER_CORE, family, free_port, running
from benchmarks.engine.workload import TODAY
from benchmarks.generate import PORTS, generated_policy
from engine.supervisor import BUILDER_NICENESS
from zt.compile.decisions import PATH, encode, read
from zt.decide import DecisionTable, decide, decision_table
from zt.effective import effective
from zt.model import Policy


class Kind(StrEnum):
    """What happens meanwhile."""

    UNDISTURBED = "undisturbed"
    BESIDE = "a builder beside"
    CHANGED = "changed every second"


CONNECTIONS = 8
PAUSE = 0.002
_ROUNDS = 3
_WORKER = "zt-worker"


@dataclass(frozen=True)
class Version:
    """A compiled policy."""

    text: str
    revision: str
    table: DecisionTable


@dataclass
class Seen:
    """What a run saw: latencies in microseconds, answers by revision, wrong ones."""

    latencies: list[float] = field(default_factory=list)
    revisions: dict[str, int] = field(default_factory=dict)
    wrong: int = 0

    def quantile(self, part: float) -> float:
        """A quantile of the latencies."""
        return sorted(self.latencies)[int(part * (len(self.latencies) - 1))]


def versions(rules: int) -> list[Version]:
    """Two policies over the same services, with rules of their own."""
    policies = [generated_policy(max(rules // 10, 10), rules, seed) for seed in (54, 55)]
    return [_version(policy) for policy in policies]


def _version(policy: Policy) -> Version:
    table = decision_table(policy, TODAY)
    text = encode(effective(policy, TODAY), table)
    return Version(text, read(text).revision, table)


def questions(known: list[Version], dice: Random) -> Iterator[tuple[str, str, int]]:
    """Half of them granted by one of the versions."""
    grants = [list(version.table.grants) for version in known]
    parties = list(known[0].table.selectors)
    while True:
        yield dice.choice(dice.choice(grants))
        yield dice.choice(parties), dice.choice(parties), dice.choice(PORTS)


async def _client(port: int, known: list[Version], seen: Seen, end: float) -> None:
    by_revision = {version.revision: version.table for version in known}
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for source, destination, number in questions(known, Random()):  # noqa: S311 - not secret
        if time.monotonic() > end:
            break
        body = orjson.dumps({"source": source, "destination": destination, "port": number})
        head = b"POST /v1/evaluate HTTP/1.1\r\nHost: zt\r\nContent-Length: %d\r\n\r\n" % len(body)
        started = time.perf_counter()
        writer.write(head + body)
        answer = await reader.readuntil(b"}")
        seen.latencies.append((time.perf_counter() - started) * 1e6)
        told = orjson.loads(answer[answer.index(b"{") :])
        revision = told["revision"]
        seen.revisions[revision] = seen.revisions.get(revision, 0) + 1
        expected = decide(by_revision[revision], source, destination, number)
        seen.wrong += (told["decision"], told["rule"]) != (expected.verdict, expected.rule)
        await asyncio.sleep(PAUSE)
    writer.close()


async def _change(folder: Path, written: list[Path], end: float) -> None:
    """Put the versions in force in turn, one each second; they were written beforehand."""
    for version in cycle(written):
        if time.monotonic() > end:
            return
        fresh = folder / "fresh.json"
        fresh.unlink(missing_ok=True)  # left where that version was in force already
        fresh.hardlink_to(version)
        fresh.rename(folder / PATH)
        await asyncio.sleep(1)


def _written(folder: Path) -> list[Path]:
    return sorted(folder.glob("version-*.json"))


async def _build_beside(folder: Path, end: float) -> None:
    """Build the versions in turn, one each second as the supervisor has it, for nobody."""
    for version in cycle(_written(folder)):
        if time.monotonic() > end:
            return
        command = ("nice", "-n", str(BUILDER_NICENESS), sys.executable, "-m", "engine.builder")
        beside = await asyncio.create_subprocess_exec(*command, version, folder / "beside")
        await asyncio.gather(beside.wait(), asyncio.sleep(1))


async def run(folder: Path, port: int, known: list[Version], seconds: float, kind: Kind) -> Seen:
    """Load for some seconds."""
    seen, end = Seen(), time.monotonic() + seconds
    tasks = [_client(port, known, seen, end) for _ in range(CONNECTIONS)]
    if kind is Kind.CHANGED:
        tasks.append(_change(folder, _written(folder), end))
    if kind is Kind.BESIDE:
        tasks.append(_build_beside(folder, end))
    await asyncio.gather(*tasks)
    return seen


@contextmanager
def served(known: list[Version]) -> Iterator[tuple[Path, int]]:
    """An evaluator whose worker has a core to itself; its folder and its port."""
    folder = Path(tempfile.mkdtemp(prefix="zt-reload-", dir=Path.cwd()))
    try:
        for number, version in enumerate(known):
            (folder / f"version-{number}.json").write_text(version.text)
        (folder / PATH).write_text(known[0].text)
        port = free_port()
        probe = b"GET /v1/policies HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        with running(OURS.launch(folder, port), port, probe, 60) as server:
            for process in family(server.process.pid):
                name = Path(f"/proc/{process}/comm").read_text().strip()
                os.sched_setaffinity(process, {SERVER_CORE if name == _WORKER else CLIENT_CORE})
            yield folder, port
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def measured(known: list[Version], seconds: float, rounds: int) -> dict[Kind, list[Seen]]:
    """Runs of each kind, taking turns."""
    runs: dict[Kind, list[Seen]] = {kind: [] for kind in Kind}
    os.sched_setaffinity(0, {CLIENT_CORE})
    with served(known) as (folder, port):
        asyncio.run(run(folder, port, known, 2, Kind.UNDISTURBED))
        for _ in range(rounds):
            for kind in Kind:
                runs[kind].append(asyncio.run(run(folder, port, known, seconds, kind)))
    return runs


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rules", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=10)
    options = parser.parse_args()
    known = versions(options.rules)
    runs = measured(known, options.seconds, _ROUNDS)
    for kind, all_seen in runs.items():
        for seen in all_seen:
            print(
                f"{kind:20}: "
                f"{len(seen.latencies)} answers, wrong {seen.wrong}, "
                f"p50 {seen.quantile(0.5):.0f} us, p99 {seen.quantile(0.99):.0f} us, "
                f"revisions {sorted(seen.revisions.values())}"
            )
    for kind in (Kind.UNDISTURBED, Kind.BESIDE):
        pairs = zip(runs[kind], runs[Kind.CHANGED], strict=True)
        ratios = [changed.quantile(0.99) / quiet.quantile(0.99) for quiet, changed in pairs]
        print(f"p99 changed / {kind}:", ", ".join(f"{ratio:.2f}" for ratio in ratios))


if __name__ == "__main__":
    main()
