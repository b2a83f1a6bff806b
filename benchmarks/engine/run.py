"""Runs each contender at one size and keeps what was measured."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.engine import cedar, opa, ours
from benchmarks.engine.client import Burst, Load, disagreements, load, write_requests
from benchmarks.engine.contender import Server
from benchmarks.engine.processes import (
    SERVER_CORE,
    Launch,
    Running,
    ServerError,
    free_port,
    on_core,
    peak,
    running,
)
from benchmarks.engine.timing import Timing, write_asks
from benchmarks.engine.workload import Ask, Workload
from lab.tools.build import tool
from zt.compile.decisions import PATH

CONNECTIONS = 16
REPEATED = 1_000
_WARM_UP_SECONDS = 0.5
_LOOK = 0.01
_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured. Seconds are for each run of the load program."""

    sizes: tuple[int, ...]
    requests: int
    compared: int
    decisions: int
    seconds: float
    single_seconds: float
    cedar_seconds: float
    patience: float


@dataclass(frozen=True, slots=True)
class ServerFigures:
    """What a server did. ``failure`` says why it was not measured, if it was not.

    ``distinct`` and ``repeated`` are with many connections, ``single`` with one at a time.
    ``processor_us`` is the processor time of one answer of ``distinct``, whoever else was running;
    ``missing`` is how many of its answers it left no record of, once it had been killed.
    """

    name: str
    failure: str = ""
    load_seconds: float = 0
    memory_mib: float = 0
    processor_us: float = 0
    missing: int = 0
    wrong: tuple[str, ...] = ()
    distinct: Load | None = None
    repeated: Load | None = None
    single: Load | None = None


@dataclass(frozen=True, slots=True)
class Build:
    """What the builder of the decision table took."""

    source: str
    seconds: float
    memory_mib: float


@dataclass
class SizeFigures:
    """All of one size."""

    size: int
    servers: list[ServerFigures] = field(default_factory=list)
    builds: list[Build] = field(default_factory=list)
    processes: dict[str, Timing] = field(default_factory=dict)


def serve(server: Server, workload: Workload, asks: list[Ask], plan: Plan) -> ServerFigures:
    """Start a server, compare its answers, load it, kill it and count its records."""
    if workload.size > server.most_rules:
        return ServerFigures(server.name, server.why)
    with _folder() as folder:
        server.write(workload, folder)
        requests, few = folder / "requests", folder / "few-requests"
        write_requests(server.form, asks, requests)
        write_requests(server.form, asks[:REPEATED], few)
        port, probe = free_port(), server.form.request(asks[0])
        try:
            with running(server.launch(folder, port), port, probe, plan.patience) as started:
                figures, answers = _loaded(server, started, (requests, few), asks, plan)
        except ServerError as error:
            return ServerFigures(server.name, str(error))
        return ServerFigures(**figures, missing=max(0, answers - server.records(folder)))


def _loaded(
    server: Server, started: Running, files: tuple[Path, Path], asks: list[Ask], plan: Plan
) -> tuple[dict[str, Any], int]:
    """The figures so far, and how many answers were given."""
    form, port, (requests, few) = server.form, started.port, files
    wrong = disagreements(form, port, asks[: plan.compared])
    warm = load(form, port, requests, Burst(CONNECTIONS, _WARM_UP_SECONDS))
    before = started.processor()
    distinct = load(form, port, requests, Burst(CONNECTIONS, plan.seconds, warm.last))
    spent = started.processor() - before
    memory = started.memory()
    repeated = load(form, port, few, Burst(CONNECTIONS, plan.single_seconds))
    single = load(form, port, requests, Burst(1, plan.single_seconds, distinct.last))
    runs = (warm, distinct, repeated, single)
    wrong += [f"{run.refused} answers were not 200" for run in runs if run.refused]
    figures = {
        "name": server.name,
        "load_seconds": started.start_seconds,
        "memory_mib": memory,
        "processor_us": spent / distinct.answers * 1e6,
        "wrong": tuple(wrong),
        "distinct": distinct,
        "repeated": repeated,
        "single": single,
    }
    return figures, plan.compared + sum(run.answers for run in runs)


def ceiling(plan: Plan, asks: list[Ask]) -> Load:
    """What the load program reaches against a server that does nothing."""
    with _folder() as folder:
        requests, port = folder / "requests", free_port()
        write_requests(ours.OURS.form, asks, requests)
        command = (str(tool("load")), "-serve", "-address", f"127.0.0.1:{port}")
        launch = Launch(command, folder / "errors", {}, folder)
        with running(launch, port, ours.OURS.form.request(asks[0]), plan.patience):
            burst = Burst(CONNECTIONS, plan.single_seconds)
            return load(ours.OURS.form, port, requests, burst)


def start_from_sources(workload: Workload, ask: Ask, plan: Plan) -> ServerFigures:
    """How long this evaluator takes to be ready where it reads YAML."""
    server = ours.FROM_SOURCES
    with _folder() as folder:
        server.write(workload, folder)
        port, probe = free_port(), server.form.request(ask)
        try:
            with running(server.launch(folder, port), port, probe, plan.patience) as started:
                memory = started.memory()
        except ServerError as error:
            return ServerFigures(server.name, str(error))
        return ServerFigures(server.name, "", started.start_seconds, memory)


def in_processes(workload: Workload, asks: list[Ask], plan: Plan) -> SizeFigures:
    """Decisions without a network, each contender in a process of its own."""
    found = SizeFigures(workload.size)
    few = asks[: plan.decisions]
    with _folder() as folder:
        write_asks(few, folder / "asks")
        ours.write_compiled(workload, folder)
        found.builds.append(_build("decisions.json", folder / PATH, folder / "table"))
        measured = _json(
            (sys.executable, "-m", "benchmarks.engine.inprocess"),
            (folder / "table", folder / "state", folder / "asks"),
        )
        for name, figures in measured.items():
            found.processes[f"this evaluator, {name}"] = Timing(**figures)
        found.processes["opa, library"] = _opa_library(workload, few, folder)
        cedar.write(workload, folder)
        measured = _json(
            (sys.executable, "-m", "benchmarks.engine.cedar"),
            (folder, folder / "asks", str(plan.cedar_seconds)),
        )
        found.processes["cedar"] = Timing(**measured)
    return found


def build_from_sources(workload: Workload) -> Build:
    """What the builder takes where it reads YAML."""
    with _folder() as folder:
        ours.write_sources(workload, folder)
        return _build("YAML", folder / ours.SOURCES, folder / "table")


def _opa_library(workload: Workload, asks: list[Ask], folder: Path) -> Timing:
    opa.write_data(workload, folder)
    measured = _json(
        (str(tool("opa-library")), "-answers"),
        ("-policy", folder / opa.POLICY, "-requests", folder / "asks", "-log", folder / "opa.log"),
    )
    answers = measured["answers"]
    return Timing(
        load_seconds=measured["load_seconds"],
        count=len(answers),
        p50_us=measured["p50_us"],
        p99_us=measured["p99_us"],
        p999_us=measured["p999_us"],
        wrong=sum(answer != ask.rule for answer, ask in zip(answers, asks, strict=True)),
    )


def _build(name: str, source: Path, folder: Path) -> Build:
    started = time.perf_counter()
    process = subprocess.Popen(  # noqa: S603 - ours
        (*on_core(SERVER_CORE), sys.executable, "-m", "engine.builder", source, folder),
        cwd=_ROOT,
        stderr=subprocess.DEVNULL,
    )
    most = 0
    while process.poll() is None:
        most = max(most, peak(process.pid))
        time.sleep(_LOOK)
    if process.returncode != 0:
        raise ServerError(f"the builder refuses {name}")
    return Build(name, time.perf_counter() - started, most / 1024)


def _json(program: tuple[str, ...], arguments: tuple[str | Path, ...]) -> dict[str, Any]:
    done = subprocess.run(  # noqa: S603 - ours
        (*on_core(SERVER_CORE), *program, *arguments),
        cwd=_ROOT,
        stdout=subprocess.PIPE,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@contextmanager
def _folder() -> Iterator[Path]:
    with TemporaryDirectory(prefix="zt-bench-") as folder:
        yield Path(folder)
