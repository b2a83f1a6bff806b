"""What Pulumi's state keeps of an object, beside what was asked of it."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from typing import Any

from google.protobuf.struct_pb2 import Struct

from lab.provider.values import UNKNOWN, Json, Path, decoded, encoded

_MANAGER, _VERSION = "__fieldManager", "__initialApiVersion"
_SECRET_FIELDS = ("data", "stringData")
# The API server writes these; whoever copies them into a manifest asks for nothing.
_READ_ONLY = ("creationTimestamp", "generation", "managedFields", "resourceVersion", "uid")


@dataclass(frozen=True, slots=True)
class Known:
    """An object as it was last seen. ``manager`` is who applies its fields, for the API server."""

    live: Json
    inputs: Json
    manager: str
    secrets: frozenset[Path] = frozenset()


def manager_of(urn: str) -> str:
    """Each resource applies fields under a name of its own: two of them may share an object."""
    return f"pulumi-kubernetes-{hashlib.sha256(urn.encode()).hexdigest()[:8]}"


def read(properties: Struct, inputs: Struct, urn: str) -> Known:
    """What the state says; of a resource that was never made, nothing.

    The engine keeps inputs itself, beside the object.
    """
    plain, secrets = decoded(properties)
    plain.pop(_MANAGER, None)
    plain.pop(_VERSION, None)
    return Known(plain, decoded(inputs)[0], manager_in(properties, urn), secrets)


def manager_in(properties: Struct, urn: str) -> str:
    """Who applied an object's fields, by the state; or who would."""
    if _MANAGER not in properties.fields:  # to ask for it would put it there
        return manager_of(urn)
    return properties.fields[_MANAGER].string_value or manager_of(urn)


def written(known: Known) -> Struct:
    """The same for the state; secrets stay so."""
    version = known.inputs.get("apiVersion")
    plain = {**known.live, _MANAGER: known.manager, _VERSION: version}
    return encoded(plain, secrets_of(known.inputs, known.secrets))


def secrets_of(manifest: Json, marked: frozenset[Path]) -> frozenset[Path]:
    """What is secret of an object: what the program says, and all that a Secret holds."""
    if manifest.get("kind") != "Secret":
        return marked
    return marked | {(field,) for field in _SECRET_FIELDS}


def normal(manifest: Json) -> Json:
    """A manifest as the API server would store it, as far as the form is known beforehand."""
    found = _without_nulls(manifest)
    metadata = found.get("metadata", {})
    found["metadata"] = {key: value for key, value in metadata.items() if key not in _READ_ONLY}
    text = found.pop("stringData", None) if found.get("kind") == "Secret" else None
    if text:
        found["data"] = {**found.get("data", {}), **{k: _base64(v) for k, v in text.items()}}
    return found


def _without_nulls(value: Json) -> Json:
    return {key: _inner(item) for key, item in value.items() if item is not None}


def _inner(value: Any) -> Any:  # noqa: ANN401 - any JSON
    if isinstance(value, dict):
        return _without_nulls(value)
    return [_inner(item) for item in value] if isinstance(value, list) else value


def _base64(value: str) -> str:
    return value if value == UNKNOWN else base64.b64encode(value.encode()).decode()
