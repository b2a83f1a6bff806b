"""Changed copies of the policies, and which objects of a cluster a change concerns."""

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lab.stack.folder import ROOT
from zt.compile import compile_policy
from zt.load import load_policy

POLICIES = ROOT / "policies"
EVALUATOR = "zt-policy-engine"
_RULE = """\
    - from:
        spiffe: "spiffe://hanzo.ai/{source}"
      to:
        - spiffe: "spiffe://hanzo.ai/{destination}"
          ports: [{port}]
"""
_RULE_BEGINS, _END = "\n    - ", "  defaultAction:"
_LAST = Path("access") / "hanzo-platform-policy.yaml"


def copied(folder: Path, source: Path = POLICIES) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(source, folder))


def add_rule(folder: Path, source: str, destination: str, port: int) -> None:
    """Add a rule at the end, by places such as ``hanzo-k8s/hanzo/chat``."""
    rule = _RULE.format(source=source, destination=destination, port=port)
    path = folder / _LAST
    text = path.read_text(encoding="utf-8")
    assert _END in text
    path.write_text(text.replace(_END, rule + _END), encoding="utf-8")


def remove_rule(folder: Path, description: str) -> None:
    """Remove the rule of that description."""
    path = folder / _LAST
    rules = path.read_text(encoding="utf-8").split(_RULE_BEGINS)
    left = [rule for rule in rules if not rule.startswith(f"description: {description}\n")]
    assert len(left) == len(rules) - 1
    path.write_text(_RULE_BEGINS.join(left), encoding="utf-8")


def concerned(cluster: str, before: Path, after: Path) -> set[str]:
    """Objects that are compiled differently, as ``<kind> <namespace>/<name>``."""
    old, new = _compiled(cluster, before), _compiled(cluster, after)
    changed = {path for path in old.keys() | new.keys() if old.get(path) != new.get(path)}
    namespaces = _namespaces(cluster, after)
    found = {f"ConfigMap {namespaces[EVALUATOR]}/zt-policies"}
    for path in changed:
        match path.removesuffix(".yaml").split("/"):
            case ["networkpolicies", namespace, name]:
                found.add(f"NetworkPolicy {namespace}/{name}")
            case ["envoy", service, _]:
                found.add(f"ConfigMap {namespaces[service]}/zt-envoy-{service}")
    return found


def _compiled(cluster: str, folder: Path) -> dict[str, Any]:
    """Objects by path. A sidecar's files go into a cluster as they are, with their comments."""
    bundle = compile_policy(load_policy(folder), cluster, datetime.now(UTC).date())
    return {
        file.path: file.text() if file.path.startswith("envoy/") else file.manifest()
        for file in bundle.files
    }


def _namespaces(cluster: str, folder: Path) -> dict[str, str]:
    services = load_policy(folder).services
    return {item.name: item.namespace for item in services if item.cluster == cluster}
