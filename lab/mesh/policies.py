"""The copy of the policies that a local mesh runs on, perhaps at another step of the rollout."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import yaml

from lab.mesh.processes import MeshError
from zt.check import check
from zt.load import load
from zt.model import Policy
from zt.position import Severity


def read(path: Path) -> Policy:
    """Read a policy.

    Raises:
        MeshError: if it has errors; the message lists them.
    """
    loaded = load(path)
    found = check(loaded.policy, today()) if loaded.policy else loaded.findings
    errors = [finding for finding in found if finding.severity is Severity.ERROR]
    if loaded.policy is None or errors:
        listed = "\n".join(map(str, errors))
        raise MeshError(f"{path} has errors, see `zt check {path}`:\n{listed}")
    return loaded.policy


def today() -> date:
    """The day on which rules expire."""
    return datetime.now(UTC).date()


def copy(source: Path, target: Path, phase: str | None) -> Policy:
    """Copy policies, and put the step ``phase`` in force if one is named; lines stay the same.

    Raises:
        MeshError: if the policies have errors, or no such step.
    """
    policy = read(source)
    steps = [step.name for step in policy.rollout.phases] if policy.rollout else []
    if phase is not None and phase not in steps:
        known = ", ".join(steps) or "none: there is no Rollout"
        raise MeshError(f"the rollout has no step {phase!r}; it has {known}")
    root = source if source.is_dir() else source.parent
    for file in sorted(root.rglob("*.y*ml")) if source.is_dir() else [source]:
        copied = target / file.relative_to(root)
        copied.parent.mkdir(parents=True, exist_ok=True)
        text = file.read_text(encoding="utf-8")
        copied.write_text(_with_step(text, phase) if phase else text, encoding="utf-8")
    return read(target)


def _with_step(text: str, phase: str) -> str:
    """Put another step into the file's Rollout, if it holds one."""
    for document in yaml.compose_all(text, Loader=yaml.SafeLoader):
        kind, current = _find(document, "kind"), _find(_find(document, "spec"), "current")
        if kind is not None and kind.value == "Rollout" and current is not None:
            start, end = current.start_mark.index, current.end_mark.index
            return text[:start] + phase + text[end:]
    return text


def _find(node: yaml.Node | None, name: str) -> yaml.Node | None:
    """The value of a mapping's key."""
    if not isinstance(node, yaml.MappingNode):
        return None
    return next((value for key, value in node.value if key.value == name), None)
