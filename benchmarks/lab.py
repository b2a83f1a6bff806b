"""What the mesh costs in real pods, beside the same pods without it.

``sudo .venv/bin/python -m benchmarks.lab [STATE]`` needs a lab that runs (``zt lab up``). It makes
a namespace without the mesh, puts the pods of one declared edge there once more, on the same nodes,
and measures both in turn, several rounds of each: a new connection with one request, requests on a
kept connection, requests and bytes a second, the sidecars' memory and CPU, and how long a pod takes
to be ready. Prints Markdown; exit code 1 if a target is missed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from lab.cluster.client import MERGE, Client
from lab.cluster.controlplane import running
from lab.cluster.model import LabError, Layout
from lab.commands import alone, teller
from lab.faults.site import Site
from lab.faults.tally import percentile
from lab.nodes.pods import Pod, pods, process_of
from lab.services.manifests import workloads
from lab.verify.callers import Caller, Callers, callers
from zt.inject.containers import ENVOY
from zt.model import Service

CLUSTER = "hanzo-k8s"
# Who calls whom: one replica each, HTTP, and no door to the outside.
SOURCE, DESTINATION = "console", "cloud"
NAMESPACE = "bench-plain"
ROUNDS, NEW, KEPT = 5, 100, 1000
AT_ONCE, EACH = 8, 250
BYTES = 64 << 20
STARTS = 5
# The targets: milliseconds more at p50 on a kept connection, and MB of an idle sidecar.
TARGET_KEPT, TARGET_MEMORY = 0.3, 30.0
_PATIENCE = 120.0
_PAUSE = 0.02
_TICK = 0.01
_STATE = ".zt/lab"

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two: who is asked to call, where, and the sidecars on the way."""

    name: str
    caller: Caller
    host: str
    port: int
    sidecars: tuple[int, ...] = ()


@dataclass(slots=True)
class Figures:
    """What was measured of a side: seconds, requests and bytes a second, seconds of CPU."""

    new: list[float] = field(default_factory=list)
    kept: list[float] = field(default_factory=list)
    requests: list[float] = field(default_factory=list)
    bandwidth: list[float] = field(default_factory=list)
    cpu: float = 0.0
    starts: list[float] = field(default_factory=list)


def main(arguments: list[str]) -> int:
    """Measure, and print the table."""
    state = Path(arguments[0] if arguments else _STATE)
    try:
        running(state)
        site = Site(Layout(state.absolute()), CLUSTER)
        memory = tuple(_resident(pid) for pid in _sidecars(site.pods().values()))
        say = teller(as_json=True)
        with alone(site.layout.policies, say), _plain(site) as plain, callers() as dialers:
            figures = _rounds(_sides(site, plain, dialers))
            _starts(site, figures)
    except LabError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    print("\n".join(table(figures, memory)))
    return int(bool(missed(figures, memory)))


def _rounds(sides: tuple[Side, ...]) -> dict[str, Figures]:
    """All measurements, in turn."""
    figures = {side.name: Figures() for side in sides}
    for number in range(ROUNDS):
        for side in sides if number % 2 == 0 else reversed(sides):
            _measure(side, figures[side.name])
        sys.stderr.write(f"round {number + 1} of {ROUNDS}\n")
    return figures


def _measure(side: Side, into: Figures) -> None:
    ask = partial(_asked, side)
    ask(count=50)
    into.new += [ask()["seconds"] for _ in range(NEW)]
    before = sum(map(_cpu, side.sidecars))
    into.kept += ask(count=KEPT)["each"]
    into.cpu += sum(map(_cpu, side.sidecars)) - before
    began = time.monotonic()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda _: ask(count=EACH), range(AT_ONCE)))
    into.requests.append(AT_ONCE * EACH / (time.monotonic() - began))
    into.bandwidth.append(BYTES / ask(path=f"/bytes?count={BYTES}", timeout=60)["seconds"])


def _asked(side: Side, **more: Any) -> Json:  # noqa: ANN401 - any part of a question
    question = {"mode": "http", "host": side.host, "port": side.port, "timeout": 30, **more}
    answer = side.caller.ask(question)
    if not answer["ok"]:
        raise LabError(f"{side.name}: {answer['error']} {answer.get('detail', '')}")
    return answer


# --- What runs ------------------------------------------------------------------------------------


def _sides(site: Site, plain: dict[str, Pod], dialers: Callers) -> tuple[Side, ...]:
    meshed = {name: _only(site, name) for name in (SOURCE, DESTINATION)}
    port = _service(site, DESTINATION).ports[0].port
    address = plain[DESTINATION].address
    assert address  # noqa: S101 - it is ready
    return (
        # By its address: without a mesh a name would cost a question to DNS besides.
        Side("without mesh", dialers.of(plain[SOURCE]), address, port),
        Side(
            "with mesh",
            dialers.of(meshed[SOURCE]),
            DESTINATION,
            port,
            tuple(_sidecars(meshed.values())),
        ),
    )


@contextmanager
def _plain(site: Site) -> Iterator[dict[str, Pod]]:
    """The same two pods in a namespace that knows no mesh, on the same nodes."""
    namespace = f"/api/v1/namespaces/{NAMESPACE}"
    site.api.apply(namespace, {"apiVersion": "v1", "kind": "Namespace", "metadata": _named()})
    try:
        for name in (SOURCE, DESTINATION):
            _apply(site.api, _copy(site, name))
        yield {name: _ready(site.api, name) for name in (SOURCE, DESTINATION)}
    finally:
        site.api.delete(namespace)
        site.api.wait(namespace, lambda found: found is None, _PATIENCE)


def _named() -> Json:
    return {"name": NAMESPACE}


def _copy(site: Site, name: str) -> Json:
    """A service's Deployment as its team wrote it, elsewhere."""
    (found,) = (
        item
        for item in workloads(site.effective.policy, site.cluster)
        if item["kind"] == "Deployment" and item["metadata"]["name"] == name
    )
    template = found["spec"]["template"]
    there = {"nodeName": _only(site, name).node, "serviceAccountName": "default"}
    template = {**template, "spec": {**template["spec"], **there}}
    metadata = {**found["metadata"], "namespace": NAMESPACE}
    return {**found, "metadata": metadata, "spec": {**found["spec"], "template": template}}


def _apply(api: Client, manifest: Json) -> None:
    metadata = manifest["metadata"]
    api.apply(_deployment(metadata["namespace"], metadata["name"]), manifest)


def _ready(api: Client, name: str) -> Pod:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        for pod in pods(api, NAMESPACE):
            if pod.ready and pod.labels.get("app") == name:
                return pod
        time.sleep(_PAUSE)
    raise LabError(f"{NAMESPACE}/{name} is not ready after {_PATIENCE:.0f} s")


def _service(site: Site, name: str) -> Service:
    found = site.effective.find(site.cluster, name)
    if found is None:
        raise LabError(f"the policies have no service {name}")
    return found.service


def _only(site: Site, name: str) -> Pod:
    found = [pod for pod in site.pods_of(_service(site, name)).values() if pod.ready]
    if not found:
        raise LabError(f"no pod of {name} is ready")
    return found[0]


# --- Sidecars -------------------------------------------------------------------------------------


def _sidecars(found: Any) -> Iterator[int]:  # noqa: ANN401 - pods
    """Processes of Envoy in those pods that have one."""
    for pod in found:
        if ENVOY in pod.containers and pod.ready:
            yield process_of(pod.containers[ENVOY])


def _resident(pid: int) -> tuple[float, float]:
    """MB that a process has in memory, and how many of them are its own, not of a file."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    own, all_ = (int(fields[name].split()[0]) * 1024 / 1e6 for name in ("RssAnon", "VmRSS"))
    return all_, own


def _cpu(pid: int) -> float:
    """Seconds of CPU that a process has taken (proc_pid_stat(5), fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICK


# --- How long a pod takes -------------------------------------------------------------------------


def _starts(site: Site, figures: dict[str, Figures]) -> None:
    """One replica more, of each in turn: from asking for it until it is ready."""
    home = _service(site, DESTINATION).namespace
    for _ in range(STARTS):
        for name, namespace in (("without mesh", NAMESPACE), ("with mesh", home)):
            figures[name].starts.append(_started(site.api, namespace, DESTINATION))


def _started(api: Client, namespace: str, name: str) -> float:
    def of_it() -> list[Pod]:
        return [pod for pod in pods(api, namespace) if pod.labels.get("app") == name]

    _scale(api, namespace, name, 2)
    began = time.monotonic()
    _until(lambda: sum(pod.ready for pod in of_it()) == 2, f"{namespace}/{name}")  # noqa: PLR2004
    seconds = time.monotonic() - began
    _scale(api, namespace, name, 1)
    _until(lambda: len(of_it()) == 1, f"{namespace}/{name}")
    return seconds


def _scale(api: Client, namespace: str, name: str, replicas: int) -> None:
    path = _deployment(namespace, name)
    answer = api.request("PATCH", path, {"spec": {"replicas": replicas}}, content_type=MERGE)
    if not answer.ok:
        raise LabError(f"{path}: {answer.message}")


def _deployment(namespace: str, name: str) -> str:
    return f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}"


def _until(is_so: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not is_so():
        if time.monotonic() > deadline:
            raise LabError(f"{what} has not as many pods as wanted after {_PATIENCE:.0f} s")
        time.sleep(_PAUSE)


# --- The table ------------------------------------------------------------------------------------


def table(figures: dict[str, Figures], memory: tuple[tuple[float, float], ...]) -> Iterator[str]:
    """Markdown: a column for each side."""
    yield f"| | {' | '.join(figures)} |"
    yield f"|---|{'---:|' * len(figures)}"
    for name, show in _ROWS:
        yield f"| {name} | {' | '.join(show(item) for item in figures.values())} |"
    yield ""
    if memory:
        all_, own = sorted(one for one, _ in memory), sorted(one for _, one in memory)
        yield (
            f"Of {len(memory)} idle sidecars the middle one has {median(all_):.1f} MB in memory, "
            f"{median(own):.1f} MB of them its own; the largest {all_[-1]:.1f} MB."
        )
    yield from missed(figures, memory)


def missed(figures: dict[str, Figures], memory: tuple[tuple[float, float], ...]) -> list[str]:
    """Which targets are missed, a sentence each."""
    before, after = (percentile(item.kept, 0.5) for item in figures.values())
    found = []
    if (more := (after - before) * 1000) > TARGET_KEPT:
        found.append(f"Missed: {more:.2f} ms more on a kept connection, not {TARGET_KEPT} ms.")
    middle = median(own for _, own in memory) if memory else 0.0
    if middle > TARGET_MEMORY:
        found.append(f"Missed: {middle:.1f} MB of an idle sidecar, not {TARGET_MEMORY:.0f} MB.")
    return found


def _milliseconds(values: list[float], part: float) -> str:
    return f"{percentile(values, part) * 1000:.2f} ms"


_ROWS: tuple[tuple[str, Callable[[Figures], str]], ...] = (
    ("new connection and a request, p50", lambda it: _milliseconds(it.new, 0.5)),
    ("the same, p99", lambda it: _milliseconds(it.new, 0.99)),
    ("request on a kept connection, p50", lambda it: _milliseconds(it.kept, 0.5)),
    ("the same, p99", lambda it: _milliseconds(it.kept, 0.99)),
    (
        f"requests a second, {AT_ONCE} connections",
        lambda it: f"{median(it.requests):,.0f}",
    ),
    ("one large answer", lambda it: f"{median(it.bandwidth) / 1e6:,.0f} MB/s"),
    (
        "CPU of both sidecars, a request",
        lambda it: f"{it.cpu / len(it.kept) * 1e6:.0f} µs" if it.cpu else "-",
    ),
    ("a pod more until it is ready", lambda it: f"{median(it.starts):.2f} s"),
)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
