"""Changed copies of the policies, and which objects of a cluster a change concerns."""

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from lab.stack.folder import ROOT
from zt.compile import compile_policy
from zt.load import load_policy

POLICIES = ROOT / "policies"
_LAST = Path("access") / "hanzo-platform-policy.yaml"


def copied(folder: Path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(POLICIES, folder))


def add_rule(folder: Path, source: str, destination: str, port: int) -> None:
    """Add a rule at the end, by places such as ``hanzo-k8s/hanzo/chat``."""
    domain = "spiffe://hanzo.ai"
    to = {"spiffe": f"{domain}/{destination}", "ports": [port]}
    document = _read(folder)
    document["spec"]["rules"].append({"from": {"spiffe": f"{domain}/{source}"}, "to": [to]})
    _write(folder, document)


def remove_rule(folder: Path, description: str) -> None:
    """Remove the rule of that description."""
    document = _read(folder)
    rules = document["spec"]["rules"]
    document["spec"]["rules"] = [r for r in rules if r.get("description") != description]
    assert len(document["spec"]["rules"]) == len(rules) - 1
    _write(folder, document)


def concerned(cluster: str, before: Path, after: Path) -> set[str]:
    """Objects that are compiled differently, as ``<kind> <namespace>/<name>``."""
    old, new = _compiled(cluster, before), _compiled(cluster, after)
    changed = {path for path in old.keys() | new.keys() if old.get(path) != new.get(path)}
    namespaces = _namespaces(cluster, after)
    found = {"ConfigMap zt-policies"}
    for path in changed:
        match path.removesuffix(".yaml").split("/"):
            case ["networkpolicies", namespace, name]:
                found.add(f"NetworkPolicy {namespace}/{name}")
            case ["envoy", service, _]:
                found.add(f"ConfigMap {namespaces[service]}/zt-envoy-{service}")
    return found


def _compiled(cluster: str, folder: Path) -> dict[str, Any]:
    """Objects by path; their comments don't get into a cluster."""
    bundle = compile_policy(load_policy(folder), cluster, datetime.now(UTC).date())
    return {file.path: file.manifest() for file in bundle.files}


def _namespaces(cluster: str, folder: Path) -> dict[str, str]:
    services = load_policy(folder).services
    return {item.name: item.namespace for item in services if item.cluster == cluster}


def _read(folder: Path) -> dict[str, Any]:
    return dict(yaml.safe_load((folder / _LAST).read_text(encoding="utf-8")))


def _write(folder: Path, document: dict[str, Any]) -> None:
    (folder / _LAST).write_text(yaml.safe_dump(document), encoding="utf-8")
