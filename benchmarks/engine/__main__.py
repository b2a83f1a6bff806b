"""This evaluator beside OPA, Cerbos and Cedar, on one machine in one run: `make bench-engine`.

Prints Markdown as it goes; with ``--json FILE`` all figures go there too. ``--quick`` is a smoke
run of less than a minute, whose figures say little. Programs are built or installed on first use.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from dataclasses import asdict, replace
from pathlib import Path

from benchmarks.engine import cerbos, opa, ours
from benchmarks.engine.processes import CLIENT_CORE
from benchmarks.engine.report import (
    Machine,
    conditions,
    failures,
    size_report,
    target_report,
    targets,
)
from benchmarks.engine.run import (
    Plan,
    SizeFigures,
    build_from_sources,
    ceiling,
    in_processes,
    serve,
    start_from_sources,
)
from benchmarks.engine.workload import Workload, workload
from lab.tools.build import tool

FULL = Plan(
    sizes=(10, 1_000, 10_000, 100_000),
    requests=200_000,
    compared=2_000,
    decisions=100_000,
    seconds=5,
    single_seconds=2,
    cedar_seconds=8,
    patience=120,
)
QUICK = Plan(
    sizes=(10, 1_000),
    requests=20_000,
    compared=200,
    decisions=20_000,
    seconds=0.8,
    single_seconds=0.4,
    cedar_seconds=1,
    patience=30,
)
SERVERS = (ours.OURS, opa.DATA, opa.RULES, cerbos.CERBOS)


def main() -> int:
    """Run; 1 if a target is missed, 2 if an answer was wrong."""
    options = _options()
    plan = QUICK if options.quick else FULL
    if options.sizes:
        plan = replace(plan, sizes=tuple(sorted(options.sizes)))
    machine = _machine()
    for name in ("load", "opa-library"):
        tool(name)
    os.sched_setaffinity(0, {CLIENT_CORE})
    bare = ceiling(plan, workload(plan.sizes[0]).asks(plan.requests))
    print(conditions(machine, bare), flush=True)
    sizes = []
    for size in plan.sizes:
        sizes.append(_measure(workload(size), plan))
        print(size_report(sizes[-1]), flush=True)
    met = targets(sizes)
    print(target_report(met))
    if options.json:
        content = {
            "machine": asdict(machine),
            "ceiling": asdict(bare),
            "sizes": [asdict(size) for size in sizes],
            "targets": [asdict(target) for target in met],
        }
        options.json.write_text(json.dumps(content, indent=1))
    broken = failures(sizes)
    print("\n".join(broken))
    return 2 if broken else int(not all(target.met for target in met))


def _measure(rules: Workload, plan: Plan) -> SizeFigures:
    asks = rules.asks(plan.requests)
    figures = in_processes(rules, asks, plan)
    figures.servers += [serve(server, rules, asks, plan) for server in SERVERS]
    figures.servers.append(start_from_sources(rules, asks[0], plan))
    figures.builds.append(build_from_sources(rules))
    return figures


def _machine() -> Machine:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return Machine(
        next(names, platform.machine()),
        os.cpu_count() or 0,
        platform.python_version(),
        os.getloadavg()[0],
        tool("opa").name,
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke run")
    parser.add_argument("--sizes", type=int, nargs="+", metavar="RULES", help="instead of all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
