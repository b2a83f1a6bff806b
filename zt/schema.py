"""The JSON Schema of policy files (Draft 2020-12), for editors: made from the model.

It says what a field may hold; what names and numbers mean to each other is for ``zt check``.
``python -m zt.schema`` prints it.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import types
import typing
from enum import EnumMeta, StrEnum
from typing import Any

from zt.decode import is_required, yaml_fields
from zt.model import API_VERSION, KINDS, Document
from zt.values import LABEL_VALUE, Name, Scalar, StringMap, duration

Json = dict[str, Any]


def schema() -> Json:
    """The schema of one document; a file holds one or several."""
    kinds = {kind.KIND: kind for kind in KINDS}
    definitions: dict[str, Json] = {}
    for kind in KINDS:
        _define(kind, definitions)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"https://{API_VERSION}/policy.schema.json",
        "title": "Hanzo ZT policy",
        "description": "One document of a policy file",
        "type": "object",
        "properties": {
            "apiVersion": {"const": API_VERSION},
            "kind": {"enum": list(kinds), "description": "What the document declares"},
            "metadata": {
                "type": "object",
                "properties": {"name": _type_of(Name, {})},
                "required": ["name"],
                "additionalProperties": False,
            },
            "spec": {"type": "object"},
        },
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "additionalProperties": False,
        "allOf": [_chosen_by_kind(name, kind) for name, kind in kinds.items()],
        "$defs": dict(sorted(definitions.items())),
    }


def text() -> str:
    """The schema as it is kept in ``docs/``."""
    return json.dumps(schema(), indent=2) + "\n"


def _chosen_by_kind(name: str, kind: type[Document]) -> Json:
    """``if``/``then`` rather than ``oneOf``: editors then complain of the kind that was meant."""
    metadata = yaml_fields(kind)["name"].metadata["doc"]
    return {
        "if": {"properties": {"kind": {"const": name}}, "required": ["kind"]},
        "then": {
            "description": _summary(kind),
            "properties": {
                "metadata": {"properties": {"name": {"description": metadata}}},
                "spec": {"$ref": f"#/$defs/{kind.__name__}"},
            },
        },
    }


def _define(model: type, definitions: dict[str, Json]) -> Json:
    """A reference to a dataclass of the model, which is defined along the way."""
    if model.__name__ not in definitions:
        definitions[model.__name__] = {}  # so that one that holds itself ends
        definitions[model.__name__] = _object(model, definitions)
    return {"$ref": f"#/$defs/{model.__name__}"}


def _object(model: type, definitions: dict[str, Json]) -> Json:
    hints = typing.get_type_hints(model, include_extras=True)
    # A document's own name stands in its metadata.
    fields = {
        name: item
        for name, item in yaml_fields(model).items()
        if not (name == "name" and model in KINDS)
    }
    required = [name for name, item in fields.items() if is_required(item)]
    return {
        "description": _summary(model),
        "type": "object",
        "properties": {
            name: _field(hints[item.name], item, definitions) for name, item in fields.items()
        },
        **({"required": required} if required else {}),
        "additionalProperties": False,
    }


def _field(hint: object, item: dataclasses.Field[object], definitions: dict[str, Json]) -> Json:
    """A field: its type, what it is for, and what it is where it is left out."""
    found = _type_of(hint, definitions)
    if found.get("type") == "array" and not item.metadata["empty"]:
        found["minItems"] = 1
    found["description"] = item.metadata["doc"]
    default = _default(hint, item)
    if default is not None:
        found["default"] = default
    return found


def _type_of(hint: object, definitions: dict[str, Json]) -> Json:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        (inner,) = (argument for argument in arguments if argument is not types.NoneType)
        return _type_of(inner, definitions)
    if origin is typing.Annotated:
        return _annotated(arguments[1])
    if origin is tuple:
        return {"type": "array", "items": _type_of(arguments[0], definitions)}
    if isinstance(hint, EnumMeta):
        return {"enum": [str(member.value) for member in typing.cast("type[StrEnum]", hint)]}
    return _define(typing.cast("type", hint), definitions)


def _annotated(marker: object) -> Json:
    if isinstance(marker, Scalar):
        return dict(marker.schema)
    if isinstance(marker, StringMap):
        return {"type": "object", "additionalProperties": dict(LABEL_VALUE.schema)}
    raise TypeError(f"no schema for {marker!r}")


def _default(hint: object, item: dataclasses.Field[object]) -> object:
    """The default as it would be written; none where a field is simply left out."""
    value = item.default
    if value is dataclasses.MISSING or value is None or dataclasses.is_dataclass(value):
        return None
    if isinstance(value, tuple):
        return [str(part) for part in value] or None
    if _is_duration(hint):
        return duration(typing.cast("int", value))
    return value


def _is_duration(hint: object) -> bool:
    arguments = typing.get_args(hint)
    return bool(arguments) and arguments[0] is int and dict(arguments[1].schema)["type"] == "string"


def _summary(model: type) -> str:
    return (model.__doc__ or "").splitlines()[0]


if __name__ == "__main__":
    sys.stdout.write(text())
