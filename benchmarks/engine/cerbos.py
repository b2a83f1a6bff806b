"""Cerbos, with a resource policy for each destination: its index goes by resource, role and action.

A source is a principal with one role of its own, a port is an action. Decision logs go to a file.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.engine.client import ALLOWED, Form
from benchmarks.engine.contender import Server, lines_with
from benchmarks.engine.processes import Launch
from benchmarks.engine.workload import Ask, Workload
from lab.tools.build import ToolError, cache_folder
from zt.decide import DEFAULT_RULE

VERSION = "0.55.0"
_PACKAGE = f"@cerbos/cerbos-linux-x64@{VERSION}"
_LOG = "audit.log"
_ERRORS = "cerbos.log"


def _program() -> Path:
    """The binary, which npm installs."""
    folder = cache_folder() / f"cerbos-{VERSION}"
    program = folder / "node_modules/@cerbos/cerbos-linux-x64/cerbos-linux-x64"
    if program.exists():
        return program
    npm = shutil.which("npm")
    if npm is None:
        raise ToolError("there is no npm to install Cerbos with")
    folder.mkdir(parents=True, exist_ok=True)
    options = ("--prefix", folder, "--no-save", "--no-package-lock", "--silent")
    subprocess.run([npm, "install", *options, _PACKAGE], check=True)  # noqa: S603 - ours
    return program


def _write(workload: Workload, folder: Path) -> None:
    rules: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for (source, destination, port), rule in workload.edges.items():
        one = {"name": rule.replace("/", "-"), "actions": [str(port)], "effect": "EFFECT_ALLOW"}
        rules[_path(destination)].append({**one, "roles": [_path(source)]})
    policies = folder / "policies"
    policies.mkdir(exist_ok=True)
    for number, (kind, granted) in enumerate(rules.items()):
        policy = {"version": "default", "resource": kind, "rules": granted}
        content = {"apiVersion": "api.cerbos.dev/v1", "resourcePolicy": policy}
        (policies / f"{number}.json").write_text(json.dumps(content))


def _launch(folder: Path, port: int) -> Launch:
    config = {
        "server": {"httpListenAddr": f"127.0.0.1:{port}", "grpcListenAddr": "unix:grpc.socket"},
        "storage": {"driver": "disk", "disk": {"directory": "policies", "watchForChanges": False}},
        "audit": {
            "enabled": True,
            "accessLogsEnabled": False,
            "decisionLogsEnabled": True,
            "backend": "file",
            "file": {"path": _LOG},
        },
        "telemetry": {"disabled": True},
    }
    (folder / "cerbos.json").write_text(json.dumps(config))
    command = (str(_program()), "server", "--config=cerbos.json", "--log-level=error")
    return Launch(command, folder / _ERRORS, {"CERBOS_NO_TELEMETRY": "1"}, folder)


def _path(spiffe: str) -> str:
    """Kinds and roles have no colons: an ID without its trust domain."""
    return spiffe.removeprefix("spiffe://hanzo.ai/")


def _body(ask: Ask) -> dict[str, Any]:
    resource = {"kind": _path(ask.destination), "id": "it"}
    return {
        "principal": {"id": ask.source, "roles": [_path(ask.source)]},
        "resources": [{"resource": resource, "actions": [str(ask.port)]}],
    }


def _rule(answer: Mapping[str, Any]) -> str:
    (result,) = answer["results"]
    (effect,) = result["actions"].values()
    return ALLOWED if effect == "EFFECT_ALLOW" else DEFAULT_RULE


CERBOS = Server(
    "cerbos",
    Form("/api/check/resources", _body, _rule, "EFFECT_ALLOW"),
    _write,
    _launch,
    lambda folder: lines_with(folder / _LOG, b'"callId"'),
)
