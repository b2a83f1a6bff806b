"""Documents of a policy as JSON values, with the names that they have in YAML."""

from __future__ import annotations

import dataclasses
from typing import Any

from zt.decode import yaml_fields
from zt.model import Document, Policy


def documents(policy: Policy) -> list[dict[str, Any]]:
    """The policies among the documents: whom services, people and agents may reach."""
    found: tuple[Document, ...] = (*policy.access, *policy.operators, *policy.agents)
    return [_document(document) for document in found]


def _document(document: Document) -> dict[str, Any]:
    spec = _value(document)
    name = spec.pop("name")
    return {"kind": document.KIND, "name": name, "where": str(document.where), "spec": spec}


def _value(value: Any) -> Any:  # noqa: ANN401 - any value of the model
    """Scalars that JSON does not know are text; durations are seconds."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, tuple):
        return [_value(item) for item in value]
    if dataclasses.is_dataclass(value) and (named := yaml_fields(type(value))):
        pairs = ((name, _value(getattr(value, item.name))) for name, item in named.items())
        return {name: shown for name, shown in pairs if shown not in (None, [])}
    return str(value)
