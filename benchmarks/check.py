"""What a Check costs: `python -m benchmarks.check`. Needs two cores, and h2load.

A server on one core decides by a table of 100,000 rules and appends each decision to a spool on
disk before it answers; h2load asks from the other core, as Envoy's network filter does, about a few
connections again and again. Then a real Envoy asks for each new connection of a client, with mutual
TLS everywhere, and beside it lets connections through unasked, in turns.

The rate is what one core gave, beside whatever else ran on it; the microseconds of CPU that the
server took for a Check say what it could give by itself. The TLS figures leave out client
certificates, which h2load has none of: they cost handshakes alone.
"""

from __future__ import annotations

import asyncio
import math
import multiprocessing
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import uvloop
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest

from benchmarks.generate import generated_policy
from benchmarks.paced import Call, latencies
from engine.audit.spool import Spool
from engine.builder import snapshot_of
from engine.decider import Decider, View
from engine.envoy.calls import CHECK, framed
from engine.locate import Locations
from engine.metrics.metrics import Metrics
from engine.policy.table import Snapshot
from engine.tls import Peer, SvidFiles
from tests.engine.envoy.proxy import client_context, echo, echoed, envoy
from tests.engine.samples import DB, ENGINE, WEB, Authority, in_force
from zt.model import Policy
from zt.wellknown import METADATA_DESTINATION, METADATA_PORT

SERVICES, RULES = 10_000, 100_000
SERVER_CORE, CLIENT_CORE = 0, 1
ROUNDS = 5
SECONDS = 3
# At half the target's rate: short rounds, of which one finds the machine quiet.
PACED_ROUNDS = 12
PACED_SECONDS = 1
EDGES = 4
CLIENTS, STREAMS = 2, 32  # of h2load for each edge
CONNECTIONS = 600
TODAY = date(2026, 11, 23)
TARGET_RATE = 50_000
TARGET_P99_MS = 2.0
TARGET_ADDED_MS = 0.5


@dataclass(frozen=True, slots=True)
class Figures:
    """Checks a second at saturation, and milliseconds at ``load``; ``cpu`` in microseconds."""

    rate: float
    cpu: float
    load: float
    p50: float
    p99: float


def main() -> int:
    """Print the figures; 1 where a target is missed, 2 where they can't be taken."""
    if shutil.which("h2load") is None:
        print("h2load is missing: install nghttp2-client (Debian) or nghttp2 (elsewhere)")
        return 2
    print(f"generating {RULES:,} rules", file=sys.stderr)
    policy = generated_policy(SERVICES, RULES)
    snapshot = snapshot_of(policy, TODAY)
    with tempfile.TemporaryDirectory() as folder:
        load = _Load(Path(folder), policy)
        print("server            Checks/s   CPU us   at load   p50 ms   p99 ms")
        plain = _measured("ngh2", load, snapshot, "ngh2", tls=False)
        _measured("ngh2, TLS 1.3", load, snapshot, "ngh2", tls=True)
        _measured("ngh2, all new", load, snapshot, "new", tls=False)
        _measured("grpcio", load, snapshot, "grpcio", tls=False)
        added = uvloop.run(_envoy(Path(folder)))
    missed = [
        *([f"{plain.rate:,.0f} Checks/s"] if plain.rate < TARGET_RATE else []),
        *([f"p99 {plain.p99:.2f} ms"] if plain.p99 > TARGET_P99_MS else []),
        *([f"+{added:.2f} ms a connection"] if added > TARGET_ADDED_MS else []),
    ]
    print("targets missed: " + "; ".join(missed) if missed else "all targets met")
    return 1 if missed else 0


# --- Load -----------------------------------------------------------------------------------------


class _Load:
    """h2load, asking about a few edges of a policy at once."""

    def __init__(self, folder: Path, policy: Policy) -> None:
        self._folder = folder
        self._edges = list(_edges(policy))
        self._calls = []
        for number, (source, destination, port) in enumerate(self._edges):
            body = framed(_question(source, destination, number))
            (folder / f"body-{number}").write_bytes(body)
            self._calls.append(_call(destination, port, body))

    def rate(self, server: _Server) -> tuple[float, float]:
        """Checks a second, as fast as they are answered, and CPU of each: the best of some rounds.

        The best, because what else runs on the machine only takes away.
        """
        return max(self._round(server) for _ in range(ROUNDS))

    def _round(self, server: _Server) -> tuple[float, float]:
        before = server.cpu()
        reports = self._run(server)
        used = server.cpu() - before
        return sum(map(_rate, reports)), used / sum(map(_answered, reports)) * 1e6

    def latencies(self, server: _Server, rate: float) -> list[float]:
        """Milliseconds of Checks asked at a rate, ascending: of the best of some rounds."""
        return min(
            (self._paced(server, rate) for _ in range(PACED_ROUNDS)), key=lambda ms: _rank(ms, 0.99)
        )

    def _paced(self, server: _Server, rate: float) -> list[float]:
        context = None
        if server.scheme == "https":
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            context.set_alpn_protocols(["h2"])
        with _on_core(CLIENT_CORE):
            return latencies(
                server.port,
                self._calls,
                rate,
                PACED_SECONDS,
                connections=EDGES * CLIENTS,
                context=context,
            )

    def _run(self, server: _Server) -> list[str]:
        processes = []
        for number, (_, destination, destination_port) in enumerate(self._edges):
            fields = (f"{name}: {value}" for name, value in _headers(destination, destination_port))
            command = [
                *("taskset", "-c", str(CLIENT_CORE), "h2load"),
                *("-c", str(CLIENTS), "-m", str(STREAMS), "-D", str(SECONDS)),
                *("-d", str(self._folder / f"body-{number}")),
                *(option for header in fields for option in ("-H", header)),
                f"{server.scheme}://127.0.0.1:{server.port}{CHECK}",
            ]
            processes.append(
                subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603 - h2load
            )
        return [process.communicate()[0] for process in processes]


@contextmanager
def _on_core(core: int) -> Iterator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _edges(policy: Policy) -> Iterator[tuple[str, str, int]]:
    """Source, destination and port of a few rules."""
    for access in policy.access[:EDGES]:
        rule = access.rules[0]
        yield str(rule.source.spiffe), str(rule.to[0].spiffe), rule.to[0].ports[0]


def _question(source: str, destination: str, number: int) -> bytes:
    """As Envoy's network filter asks, with a certificate of the usual size."""
    certificate = Authority().issue(source)[1].decode()
    peers = {
        "source": {
            "address": _address(f"10.240.0.{number}", 40000),
            "principal": source,
            "certificate": quote(certificate),
        },
        "destination": {"address": _address("10.240.1.1", 15100), "principal": destination},
    }
    return bytes(CheckRequest(attributes=peers).SerializeToString())


def _address(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}


def _headers(destination: str, port: int) -> Iterator[tuple[str, str]]:
    """What Envoy 1.40 sends with a Check."""
    yield "te", "trailers"
    yield "grpc-timeout", "1000m"
    yield "content-type", "application/grpc"
    yield METADATA_DESTINATION, destination
    yield METADATA_PORT, str(port)
    yield "x-envoy-internal", "true"
    yield "x-forwarded-for", "10.240.1.1"
    yield "x-envoy-expected-rq-timeout-ms", "1000"


def _call(destination: str, port: int, body: bytes) -> Call:
    pseudo = {":method": "POST", ":path": CHECK, ":authority": "evaluator", ":scheme": "http"}
    fields = [*pseudo.items(), *_headers(destination, port)]
    return Call([(name.encode(), value.encode()) for name, value in fields], body)


def _rate(report: str) -> float:
    """Of h2load's report, answers a second."""
    line = next(line for line in report.splitlines() if line.startswith("finished in"))
    return float(line.split(",")[1].split()[0])


def _answered(report: str) -> int:
    """Of h2load's report, how many answers there were; none may be missing."""
    line = next(line for line in report.splitlines() if line.startswith("requests:"))
    if " 0 failed, 0 errored, 0 timeout" not in line:
        raise RuntimeError(f"not all Checks were answered: {line}")
    return int(line.split(" succeeded")[0].split()[-1])


def _measured(name: str, load: _Load, snapshot: Snapshot, transport: str, *, tls: bool) -> Figures:
    with _serving(snapshot, transport, tls=tls) as server:
        rate, cpu = load.rate(server)
        # Half of what is asked for: whoever asks at random, one by one, can't do much more itself.
        half = min(rate, TARGET_RATE) / 2
        times = load.latencies(server, half)
    figures = Figures(rate, cpu, half, _rank(times, 0.5), _rank(times, 0.99))
    row = f"{name:16} {rate:9,.0f} {cpu:8.1f} {half:9,.0f} {figures.p50:8.2f} {figures.p99:8.2f}"
    print(row, flush=True)
    return figures


def _rank(ascending: list[float], quantile: float) -> float:
    return ascending[max(math.ceil(quantile * len(ascending)), 1) - 1]


# --- Servers --------------------------------------------------------------------------------------


class _Immediate:
    """An answer goes out once its record is in the page cache: durability `process`."""

    immediate = True

    def when(self, sequence: int, settle: Callable[[bool], None]) -> None:
        """Never asked."""


@dataclass(frozen=True, slots=True)
class _Server:
    """A server in a process of its own."""

    process: int
    port: int
    scheme: str

    def cpu(self) -> float:
        """Seconds of CPU so far."""
        fields = Path(f"/proc/{self.process}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def _serving(snapshot: Snapshot, transport: str, *, tls: bool) -> Iterator[_Server]:
    """A server on its core."""
    listening = socket.create_server(("127.0.0.1", 0))
    process = multiprocessing.get_context("fork").Process(
        target=_serve, args=(listening, snapshot, transport, tls), daemon=True
    )
    process.start()
    port = listening.getsockname()[1]
    listening.close()
    try:
        assert process.pid is not None  # noqa: S101 - it has been started
        yield _Server(process.pid, port, "https" if tls else "http")
    finally:
        process.kill()
        process.join()


def _serve(listening: socket.socket, snapshot: Snapshot, transport: str, tls: bool) -> None:  # noqa: FBT001 - by place, over a fork
    os.sched_setaffinity(0, {SERVER_CORE})
    if transport == "new":
        from engine.envoy import authz  # noqa: PLC0415 - in this process alone

        authz.REMEMBERED = 0
    uvloop.run(_serve_for_ever(listening, snapshot, transport, tls=tls))


async def _serve_for_ever(
    listening: socket.socket, snapshot: Snapshot, transport: str, *, tls: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        svid = _certified(Path(folder)) if tls else None
        async with _answering(listening, snapshot, svid, transport):
            await asyncio.Event().wait()


def _certified(folder: Path) -> SvidFiles:
    """An SVID that asks its clients for none."""
    Authority().write(folder, ENGINE)

    class Lenient(SvidFiles):
        def server_context(self, protocols: Any, *, mutual: bool = False) -> ssl.SSLContext:  # noqa: ANN401 - as there
            return super().server_context(protocols, mutual=mutual)

    from engine.envoy import connection  # noqa: PLC0415 - in this process alone

    setattr(connection, "peer_of", lambda _: Peer(cast("str", None), math.inf))  # noqa: B010 - for h2load
    return Lenient(folder)


@asynccontextmanager
async def _answering(
    listening: socket.socket, snapshot: Snapshot, svid: SvidFiles | None, transport: str
) -> AsyncIterator[None]:
    if transport == "grpcio":
        from engine.envoy.fallback import serve  # noqa: PLC0415 - never before a fork
    else:
        from engine.envoy.http2 import serve  # noqa: PLC0415
    with tempfile.TemporaryDirectory() as folder:
        spool = Spool(Path(folder), segment_bytes=64 << 20, limit_bytes=8 << 30)
        view = View(snapshot, Locations())
        decider = Decider(view, spool, cast("Any", _Immediate()), Metrics(None))
        async with serve(listening, decider, svid):
            yield
        spool.close()


# --- Envoy ----------------------------------------------------------------------------------------


async def _envoy(folder: Path) -> float:
    """Milliseconds that asking adds to a new connection."""
    authority = Authority()
    authority.write(folder / "svid", ENGINE)
    listening = socket.create_server(("127.0.0.1", 0))
    target = f"127.0.0.1:{listening.getsockname()[1]}"
    web = client_context(folder, authority, WEB)
    times: dict[str, list[float]] = {"asked": [], "open": []}
    async with (
        _answering(listening, in_force(), SvidFiles(folder / "svid"), "ngh2"),
        echo() as service,
        envoy(folder / "envoy", authority, target, service) as proxy,
    ):
        for _ in range(CONNECTIONS):
            for name, port in (("asked", proxy.tcp), ("open", proxy.open)):
                started = time.perf_counter()
                if await echoed(port, web) != b"x":
                    raise RuntimeError(f"a connection to {DB} was refused")
                times[name].append((time.perf_counter() - started) * 1000)
    p50, p99 = ({name: _rank(sorted(all_), q) for name, all_ in times.items()} for q in (0.5, 0.99))
    added = p50["asked"] - p50["open"]
    print(
        f"Envoy, a new connection and a byte there and back: p50 {p50['asked']:.2f} ms asked, "
        f"{p50['open']:.2f} ms not: {added:+.2f} ms; p99 {p99['asked']:.2f}, {p99['open']:.2f} ms"
    )
    return added


if __name__ == "__main__":
    sys.exit(main())
