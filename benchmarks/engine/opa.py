"""Open Policy Agent, with the rules in both forms that its documentation calls fast.

``opa, data``: the rules are data, looked up by source, destination and port; the answer is the
name of the rule. The port is text in data and request alike, so that no rule has to convert it.
``opa, rules``: each rule is a Rego rule of equalities, which OPA indexes and leaves early; the
answer is true or false. Decision logs go to the console, which is a file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.engine.client import ALLOWED, Form
from benchmarks.engine.contender import Server, lines_with
from benchmarks.engine.processes import Launch
from benchmarks.engine.workload import Ask, Workload
from lab.tools.build import tool
from zt.decide import DEFAULT_RULE

LOG = "decisions.log"
POLICY = "policy"

_LOOKUP = """package zt

default rule := "default"

rule := data.rules[input.source][input.destination][input.port]
"""
_HEAD = """package zt

default allow := false
"""


def write_data(workload: Workload, folder: Path) -> None:
    """The rules as data, and the one Rego rule that looks them up."""
    rules: dict[str, dict[str, dict[str, str]]] = {}
    for (source, destination, port), rule in workload.edges.items():
        rules.setdefault(source, {}).setdefault(destination, {})[str(port)] = rule
    _write(folder, "policy.rego", _LOOKUP)
    _write(folder, "data.json", json.dumps({"rules": rules}))


def write_rules(workload: Workload, folder: Path) -> None:
    """The rules as Rego."""
    rules = (
        f'\nallow if {{\n\tinput.source == "{source}"\n'
        f'\tinput.destination == "{destination}"\n\tinput.port == "{port}"\n}}\n'
        for source, destination, port in workload.edges
    )
    _write(folder, "policy.rego", _HEAD + "".join(rules))


def _write(folder: Path, name: str, text: str) -> None:
    path = folder / POLICY / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def _launch(folder: Path, port: int, options: tuple[str, ...] = ()) -> Launch:
    command = (
        *(str(tool("opa")), "run", "--server", "--addr", f"127.0.0.1:{port}"),
        *("--set", "decision_logs.console=true", "--log-level", "error"),
        *("--disable-telemetry", *options, POLICY),
    )
    return Launch(command, folder / LOG, {}, folder)


def asked(ask: Ask) -> dict[str, str]:
    """The input of a query."""
    return {"source": ask.source, "destination": ask.destination, "port": str(ask.port)}


def _body(ask: Ask) -> dict[str, Any]:
    return {"input": asked(ask)}


def _rule(answer: Mapping[str, Any]) -> str:
    return str(answer["result"])


def _allowed(answer: Mapping[str, Any]) -> str:
    return ALLOWED if answer["result"] else DEFAULT_RULE


def _records(folder: Path) -> int:
    return lines_with(folder / LOG, b'"decision_id"')


DATA = Server(
    "opa, data",
    Form("/v1/data/zt/rule", _body, _rule, '"policy-'),
    write_data,
    # Data is kept as Rego values, ready to be looked up.
    partial(_launch, options=("--optimize-store-for-read-speed",)),
    _records,
)
RULES = Server(
    "opa, rules",
    Form("/v1/data/zt/allow", _body, _allowed, '"result":true'),
    write_rules,
    _launch,
    _records,
)
