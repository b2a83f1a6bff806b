"""Fields that differ in what stands in both policies."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from zt.decode import yaml_name
from zt.effective import named_rules
from zt.model import Destination, Mesh, Policy, Service, Source

# What decides which packets, pods and processes a rule speaks of, beside the rule itself.
_ACCESS = ("cidrs", "hosts", "selector", "outside", "declaredOnly", "peerPorts")
_MESH = "mesh"
_MESH_ACCESS = ("infrastructure", "trustDomain")


@dataclass(frozen=True, slots=True)
class Change:
    """A field that differs; ``access`` tells whether that changes who can reach or do what."""

    subject: str
    field: str
    old: str
    new: str
    access: bool


def changes(old: Policy, new: Policy) -> Iterator[Change]:
    """Fields of the mesh, of services and externals of both policies, of rollout and rules."""
    before, after = _subjects(old), _subjects(new)
    for subject, fields in after.items():
        if subject in before:
            yield from _compare(subject, before[subject], fields)


def _compare(subject: str, old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[Change]:
    access = _MESH_ACCESS if subject == _MESH else _ACCESS
    for name in dict.fromkeys((*old, *new)):
        was, now = old.get(name, ""), new.get(name, "")
        if was != now:
            yield Change(subject, name, was, now, name.startswith(access))


def _subjects(policy: Policy) -> dict[str, dict[str, str]]:
    mesh = policy.mesh
    return {
        _MESH: dict(_leaves(mesh)),
        "rollout": _rollout(policy),
        **{service.spiffe(mesh): _service(service) for service in policy.services},
        **{f"external:{one.name}": dict(_leaves(one)) for one in policy.externals},
        **_rules(policy),
    }


def _rollout(policy: Policy) -> dict[str, str]:
    step = policy.rollout.step() if policy.rollout else None
    if step is None:
        return {}
    return {"current": step.name, "declaredOnly": _text(step.declared_only)}


def _service(service: Service) -> dict[str, str]:
    """Its fields as they hold, whether written or by default."""
    selector = ", ".join(f"{label}={value}" for label, value in sorted(service.labels.items()))
    fields = dict(_leaves(service)) | {"selector": selector}
    return {name: value for name, value in fields.items() if name != "serviceAccount"}


def _rules(policy: Policy) -> dict[str, dict[str, str]]:
    """When each rule ends; a rule is what it grants, whatever its number."""
    found: dict[tuple[Source, tuple[Destination, ...]], dict[str, str]] = {}
    for named in named_rules(policy):
        rule = named.rule
        found.setdefault((rule.source, rule.to), {"expires": _text(rule.expires)})
    return {_sentence(*key): fields for key, fields in found.items()}


def _sentence(source: Source, to: tuple[Destination, ...]) -> str:
    called = ", ".join(f"{_side(item)}:{'/'.join(map(str, item.ports))}" for item in to)
    return f"rule from {_side(source)} to {called}"


def _side(side: Source | Destination) -> str:
    return f"external:{side.external}" if side.external else str(side.spiffe)


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, str]]:  # noqa: ANN401 - any model
    """Fields of a dataclass of the model as text, by their path in YAML."""
    for item in dataclasses.fields(value):
        if not item.metadata:
            continue
        name, inner = path + yaml_name(item), getattr(value, item.name)
        if dataclasses.is_dataclass(inner) and _is_model(inner):
            yield from _leaves(inner, f"{name}.")
        elif isinstance(value, Mesh) and name == "clusters":
            for cluster in inner:
                yield from _leaves(cluster, f"{name}.{cluster.name}.")
        else:
            yield name, _text(inner)


def _is_model(value: object) -> bool:
    return hasattr(value, "where")


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if _is_model(value):
        return "/".join(text for _, text in _leaves(value) if text)
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value))
    return str(value)
