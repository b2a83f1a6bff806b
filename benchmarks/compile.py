"""What compiling costs: `make bench`.

Compiles generated policies for one cluster, each in a process of its own, down to the text of
every file, and prints seconds, peak memory and the cost of a rule, with ten rules to a service.
The targets are those of 1,000 services and 10,000 rules, reading the files included. Last, the
start-up of `zt check` on the real policy, as a whole process.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

from benchmarks.generate import CLUSTER, generated_policy
from zt.compile import compile_policy
from zt.memory import collector_paused

SIZES = ((100, 1_000), (1_000, 10_000), (10_000, 100_000))
TARGET_SIZE = SIZES[1]
TARGET_SECONDS = 2.0
TARGET_MEBIBYTES = 300.0
TARGET_CHECK_SECONDS = 0.3
ROUNDS = 3
CHECK_RUNS = 10
TODAY = date(2026, 11, 23)
POLICIES = Path(__file__).parent.parent / "policies"


def main() -> int:
    """Print the figures; 1 where a target is missed."""
    print("services    rules  compile s  text s  peak MiB   files     MB  us/rule")
    seconds = {}
    missed = []
    for services, rules in SIZES:
        best = min((_in_a_process(services, rules) for _ in range(ROUNDS)), key=_seconds)
        seconds[rules] = _seconds(best)
        print(_row(services, rules, best))
        if (services, rules) == TARGET_SIZE:
            missed += _over("seconds", _seconds(best), TARGET_SECONDS)
            missed += _over("MiB", best["mebibytes"], TARGET_MEBIBYTES)
    (_, few), *_, (_, many) = SIZES
    ratio = (seconds[many] / many) / (seconds[few] / few)
    print(f"cost of a rule among {many:,} over that among {few:,}: {ratio:.2f}")
    start = _check_start_up()
    print(f"zt check on policies/, whole process, median of {CHECK_RUNS}: {start:.3f} s")
    missed += _over("seconds of zt check", start, TARGET_CHECK_SECONDS)
    print("targets missed: " + "; ".join(missed) if missed else "all targets met")
    return 1 if missed else 0


def measure(services: int, rules: int) -> dict[str, float]:
    """Generate and compile one policy in this process."""
    policy = generated_policy(services, rules)
    start = time.perf_counter()
    bundle = compile_policy(policy, CLUSTER, TODAY)
    compiled = time.perf_counter()
    with collector_paused():
        size = sum(len(file.text()) for file in bundle.files)
    return {
        "compile": compiled - start,
        "text": time.perf_counter() - compiled,
        "mebibytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "files": len(bundle.files),
        "bytes": size,
    }


def _in_a_process(services: int, rules: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.compile", str(services), str(rules)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - ours
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def _seconds(figures: dict[str, float]) -> float:
    return figures["compile"] + figures["text"]


def _row(services: int, rules: int, figures: dict[str, float]) -> str:
    return (
        f"{services:8,} {rules:8,} {figures['compile']:10.2f} {figures['text']:7.2f}"
        f" {figures['mebibytes']:9.0f} {figures['files']:7,.0f} {figures['bytes'] / 1e6:6.1f}"
        f" {_seconds(figures) / rules * 1e6:8.1f}"
    )


def _over(what: str, figure: float, target: float) -> list[str]:
    return [f"{figure:.2f} {what}, target {target}"] if figure >= target else []


def _check_start_up() -> float:
    zt = Path(sys.executable).with_name("zt")
    times = []
    for _ in range(CHECK_RUNS):
        start = time.perf_counter()
        subprocess.run([zt, "check", POLICIES], capture_output=True, check=True)  # noqa: S603 - ours
        times.append(time.perf_counter() - start)
    return statistics.median(times)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(int(sys.argv[1]), int(sys.argv[2]))))
    else:
        sys.exit(main())
