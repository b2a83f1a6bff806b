"""What a change of policy does: who newly reaches whom, and which planes follow when."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import date
from typing import Any

from zt.compile import compile_policy
from zt.diff import diff
from zt.effective import effective
from zt.model import Policy
from zt.render.data import diff_data

Json = dict[str, Any]

# Above that, compiling twice for each cluster takes longer than whoever asked will wait.
MAX_COMPILED_RULES = 5000

_FOLLOWS = (
    {
        "plane": "decision",
        "when": "as soon as each evaluator has read the changed policies: a second where they are "
        "files, up to two minutes where Kubernetes mounts a ConfigMap",
    },
)
# The first part of a compiled file's path, and of its name where that tells more.
_PLANES = {
    ("envoy", "clients"): "handshake",
    ("envoy", "rbac"): "sidecar RBAC",
    ("envoy", ""): "sidecar",
    ("networkpolicies", ""): "NetworkPolicy",
    ("spire", ""): "identity",
    ("wireguard", ""): "tunnel",
    ("admission", ""): "admission",
    ("audit", ""): "audit",
}
_WAIT = "until `pulumi up` of the stack, from a repository that has the change"


def difference(old: Policy | None, new: Policy, today: date) -> Json | None:
    """What ``zt diff`` says; ``None`` where there was no policy to compare with."""
    if old is None:
        return None
    return diff_data(diff(effective(old, today), effective(new, today)))


def planes(old: Policy | None, new: Policy, today: date) -> Json:
    """Planes that follow by themselves, and those that wait for ``pulumi up``."""
    return {"follow": list(_FOLLOWS), "wait": list(_waiting(old, new, today))}


def _waiting(old: Policy | None, new: Policy, today: date) -> Iterator[Json]:
    places = [*(cluster.name for cluster in new.mesh.clusters), *new.mesh.outside]
    if old is None or sum(len(access.rules) for access in new.access) > MAX_COMPILED_RULES:
        for plane in dict.fromkeys(_PLANES.values()):
            yield {"plane": plane, "clusters": places, "files": None, "when": _WAIT}
        return
    changed: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for place in places:
        for plane in _changed(old, new, place, today):
            changed[plane][place] += 1
    for plane in dict.fromkeys(_PLANES.values()):
        if plane in changed:
            where = changed[plane]
            files = sum(where.values())
            yield {"plane": plane, "clusters": list(where), "files": files, "when": _WAIT}


def _changed(old: Policy, new: Policy, place: str, today: date) -> Iterator[str]:
    """The plane of each compiled file that differs."""
    before, after = (
        {file.path: file.text() for file in compile_policy(policy, place, today).files}
        for policy in (old, new)
    )
    for path in sorted(before.keys() | after.keys()):
        plane = _plane_of(path)
        if plane and before.get(path) != after.get(path):
            yield plane


def _plane_of(path: str) -> str | None:
    """Which plane a compiled file is of; the decision table follows by itself."""
    folder, _, rest = path.partition("/")
    kind = rest.rpartition("/")[2].partition("-")[0]
    return _PLANES.get((folder, kind)) or _PLANES.get((folder, ""))
