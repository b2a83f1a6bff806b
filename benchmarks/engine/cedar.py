"""Cedar through cedarpy, with policies and entities parsed once and kept.

``python -m benchmarks.engine.cedar FOLDER REQUESTS SECONDS`` measures in a process of its own. As a
program that has to account for its decisions would, it appends a JSON line for each to a file, by
one write(2). Cedar has no index, so a run at many rules is ended by its time.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.engine.timing import Timing, read_asks, timing
from benchmarks.engine.workload import Ask, Workload
from lab.tools.build import cache_folder
from zt.decide import DEFAULT_RULE

VERSION = "4.12.2"
_POLICY = "policy.cedar"
_LOG = "cedar.log"
_WARM_UP = 20


def write(workload: Workload, folder: Path) -> None:
    """A Cedar policy for each rule, all of it in its scope."""
    policies = (
        f'@id("{rule}")\npermit(principal == Party::"{source}", action == Action::"{port}", '
        f'resource == Party::"{destination}");\n'
        for (source, destination, port), rule in workload.edges.items()
    )
    (folder / _POLICY).write_text("".join(policies))


def installed() -> Path:
    """The folder that cedarpy is installed in."""
    folder = cache_folder() / f"cedarpy-{VERSION}"
    if not folder.exists():
        unfinished = folder.with_name(f"{folder.name}.{os.getpid()}")
        options = ("--quiet", "--disable-pip-version-check", "--no-deps", "--target", unfinished)
        pip = (sys.executable, "-m", "pip", "install", *options, f"cedarpy=={VERSION}")
        subprocess.run(pip, check=True)  # noqa: S603 - ours
        unfinished.rename(folder)
    return folder


def measure(folder: Path, asks: list[Ask], seconds: float) -> Timing:
    """Decide as many of the requests as there is time for, at least a few."""
    sys.path.insert(0, str(installed()))
    started = time.perf_counter()
    decide = _decider(importlib.import_module("cedarpy"), (folder / _POLICY).read_text())
    loaded = time.perf_counter() - started
    log = os.open(folder / _LOG, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
    taken, wrong = [], 0
    end = time.perf_counter() + seconds
    for number, ask in enumerate(asks):
        began = time.perf_counter_ns()
        rule = decide(ask)
        record = {"time": time.time(), **asdict(ask), "rule": rule}
        os.write(log, json.dumps(record).encode() + b"\n")
        ended = time.perf_counter_ns()
        wrong += rule != ask.rule
        if number >= _WARM_UP:
            taken.append(ended - began)
            if time.perf_counter() > end:
                break
    return timing(loaded, taken, wrong)


def _decider(cedarpy: Any, text: str) -> Callable[[Ask], str]:  # noqa: ANN401 - has no types
    policies = cedarpy.PolicySet.from_str(text)
    entities = cedarpy.Entities.from_json_str("[]")

    def decide(ask: Ask) -> str:
        request = {
            "principal": {"type": "Party", "id": ask.source},
            "action": {"type": "Action", "id": str(ask.port)},
            "resource": {"type": "Party", "id": ask.destination},
        }
        answer = cedarpy.is_authorized(request, policies, entities)
        if not answer.allowed:
            return DEFAULT_RULE
        (rule,) = answer.diagnostics.id_annotations_by_reason.values()
        return str(rule)

    return decide


def main(arguments: list[str]) -> int:
    """Print the figures as JSON."""
    folder, requests, seconds = arguments
    print(json.dumps(asdict(measure(Path(folder), read_asks(Path(requests)), float(seconds)))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
