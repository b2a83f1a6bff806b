"""A ``Policy`` as the files that it could have been read from."""

import dataclasses
import json
from datetime import date
from typing import Any, get_args, get_type_hints

from tests.strategies import documents
from zt.decode import yaml_fields
from zt.model import API_VERSION, Document, Policy
from zt.values import Seconds, duration


def written(policy: Policy) -> list[dict[str, Any]]:
    """The documents of a policy, as JSON values."""
    return [document(item) for item in documents(policy)]


def as_yaml(found: list[dict[str, Any]]) -> bytes:
    """Documents as one file; JSON is YAML."""
    return "\n---\n".join(json.dumps(item, indent=1) for item in found).encode()


def document(item: Document) -> dict[str, Any]:
    """One document, as a JSON value."""
    spec = _mapping(item)
    name = spec.pop("name")
    return {"apiVersion": API_VERSION, "kind": item.KIND, "metadata": {"name": name}, "spec": spec}


def _mapping(item: object) -> dict[str, Any]:
    hints = get_type_hints(type(item), include_extras=True)
    found: dict[str, Any] = {}
    for name, field in yaml_fields(type(item)).items():
        value = getattr(item, field.name)
        if value == field.default:
            continue
        if hints[field.name] == Seconds or Seconds in get_args(hints[field.name]):
            value = duration(value)
        found[name] = dict(value) if name == "selector" else _value(value)
    return found


def _value(value: object) -> object:
    if dataclasses.is_dataclass(value) and yaml_fields(type(value)):
        return _mapping(value)
    if isinstance(value, tuple):
        return [_value(item) for item in value]
    if isinstance(value, bool | int):
        return value
    return value.isoformat() if isinstance(value, date) else str(value)
