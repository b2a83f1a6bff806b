"""What differs between an object as it is and as it is asked for.

The API server fills in what nobody asked for, and others own fields of their own. So an object is
first cut to the shape of what was asked for last time; what differs then from what is asked for now
is a change. Lists are cut to the length of the list asked for: an element that someone appends by
hand goes unseen, here as with the official provider.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from lab.provider.values import Json, Path

_IDENTITY = ("apiVersion", "kind", "metadata.name", "metadata.namespace")
_SELECTOR = ("spec.selector",)
_ROLE = ("roleRef",)
# What the API server refuses to change, or what another object would have to be made for.
_IMMUTABLE: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("apps/v1", "Deployment"): _SELECTOR,
    ("apps/v1", "DaemonSet"): _SELECTOR,
    ("apps/v1", "StatefulSet"): (
        "spec.podManagementPolicy",
        "spec.revisionHistoryLimit",
        "spec.selector",
        "spec.serviceName",
        "spec.volumeClaimTemplates",
    ),
    ("batch/v1", "Job"): (
        "spec.completions",
        "spec.parallelism",
        "spec.selector",
        "spec.template",
    ),
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"): _ROLE,
    ("rbac.authorization.k8s.io/v1", "RoleBinding"): _ROLE,
    ("storage.k8s.io/v1", "StorageClass"): ("parameters", "provisioner"),
    ("v1", "PersistentVolumeClaim"): (
        "spec.accessModes",
        "spec.selector",
        "spec.storageClassName",
        "spec.volumeName",
    ),
    ("v1", "Secret"): ("type",),
    ("v1", "Service"): ("spec.clusterIP",),
}
_CONTENT = {"ConfigMap": ("binaryData", "data"), "Secret": ("data", "stringData")}
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Kind(Enum):
    """What happens to a field."""

    ADD = "add"
    DELETE = "delete"
    UPDATE = "update"


@dataclass(frozen=True, slots=True)
class Difference:
    """One field that changes."""

    path: Path
    kind: Kind
    before: Any
    after: Any


def cut(live: Json, asked: Json) -> Json:
    """As much of an object as was asked for."""
    return {key: _cut(live[key], asked[key]) for key in asked if key in live}


def _cut(live: Any, asked: Any) -> Any:  # noqa: ANN401 - any JSON
    if isinstance(live, dict) and isinstance(asked, dict):
        return cut(live, asked)
    if isinstance(live, list) and isinstance(asked, list):
        return [_cut(there, here) for there, here in zip(live, asked, strict=False)]
    return live


def differences(before: Any, after: Any, path: Path = ()) -> Iterator[Difference]:  # noqa: ANN401
    """Fields that differ, each as deep as it goes. Nothing and an empty value are the same."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted(before.keys() | after.keys()):
            yield from differences(before.get(key), after.get(key), (*path, key))
    elif isinstance(before, list) and isinstance(after, list):
        # Not only in what is in both: [{}] lets all in where [] lets none.
        for index, (old, new) in enumerate(zip(before, after, strict=False)):
            yield from differences(old, new, (*path, index))
        yield from _rest(before, after, path)
    elif before != after and not (_is_empty(before) and _is_empty(after)):
        yield Difference(path, _kind(before, after), before, after)


def _rest(before: Sequence[Any], after: Sequence[Any], path: Path) -> Iterator[Difference]:
    """Elements that the other list has none for."""
    for index, item in enumerate(before[len(after) :], len(after)):
        yield Difference((*path, index), Kind.DELETE, item, None)
    for index, item in enumerate(after[len(before) :], len(before)):
        yield Difference((*path, index), Kind.ADD, None, item)


def _is_empty(value: Any) -> bool:  # noqa: ANN401 - any JSON
    return value is None or value in ({}, [])


def _kind(before: Any, after: Any) -> Kind:  # noqa: ANN401 - any JSON
    if _is_empty(before):
        return Kind.ADD
    return Kind.DELETE if _is_empty(after) else Kind.UPDATE


def replaces(
    manifest: Json, path: Path, *, patch: bool, mutable: Mapping[str, bool] | None = None
) -> bool:
    """Whether a change of that field makes another object of it; ``mutable`` says so by kind."""
    kind = manifest.get("kind", "")
    fields: tuple[str, ...] = _IDENTITY
    if not patch:
        fields += _IMMUTABLE.get((manifest.get("apiVersion", ""), kind), ())
        if manifest.get("immutable") or not (mutable or {}).get(kind, True):
            fields += _CONTENT.get(kind, ())
    name = property_path(path)
    return any(name == field or name.startswith((f"{field}.", f"{field}[")) for field in fields)


def property_path(path: Path) -> str:
    """A path as Pulumi writes it, e.g. ``metadata.labels["app.kubernetes.io/name"]``."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif _WORD.fullmatch(step):
            text += f".{step}" if text else step
        else:
            quoted = step.replace('"', '\\"')
            text += f'["{quoted}"]'
    return text
