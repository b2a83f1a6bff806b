"""The policies that people read and change through the API: as JSON, and as they are written.

The builder leaves them beside the decision table: reading a large policy again for each question
would hold up the answers to others.
"""

from __future__ import annotations

import dataclasses
import hashlib
import typing
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

import orjson

from engine.http.spans import decoded, span_at, spans
from zt.decode import yaml_fields
from zt.model import (
    API_VERSION,
    AgentAccessPolicy,
    OperatorAccessPolicy,
    Policy,
    ServiceAccessPolicy,
)
from zt.values import Seconds, duration

Access = ServiceAccessPolicy | OperatorAccessPolicy | AgentAccessPolicy
Json = dict[str, Any]

Kind = Literal["ServiceAccessPolicy", "OperatorAccessPolicy", "AgentAccessPolicy"]
KINDS: tuple[str, ...] = typing.get_args(Kind)

LIST = "policies.json"
_TAG_DIGITS = 32


def documents(policy: Policy) -> list[Json]:
    """The policies among the documents: whom services, people and agents may reach."""
    return [listed(document) for document in accesses(policy)]


def accesses(policy: Policy) -> tuple[Access, ...]:
    """The documents that can be changed through the API."""
    return *policy.access, *policy.operators, *policy.agents


def listed(document: Access) -> Json:
    """A document in the list of all."""
    spec = _value(document)
    name = spec.pop("name")
    return {"kind": document.KIND, "name": name, "where": str(document.where), "spec": spec}


def written(
    policy: Policy, source: Path, files: Iterable[tuple[str, bytes]]
) -> Iterator[tuple[str, bytes]]:
    """What the builder leaves of a policy: name and content of each file.

    ``files`` are those of the path ``source``, named from there. ``documents/<name>/<kind>.yaml``
    is the text of a document, ``.json`` the same as JSON.
    """
    inside = source.is_dir()
    texts = _texts(policy, {str(source / name if inside else source): data for name, data in files})
    content = []
    for document in accesses(policy):
        text = texts.get(id(document), "").encode()
        content.append(listed(document) | {"etag": tag_of(text)})
        place = folder_of(document.name) / document.KIND
        yield f"{place}.yaml", text
        yield f"{place}.json", orjson.dumps(whole(document), option=orjson.OPT_INDENT_2)
    yield LIST, orjson.dumps(content)


def folder_of(name: str) -> Path:
    """Where the documents of a name lie; their kinds tell them apart."""
    return Path("documents", name)


def tag_of(text: bytes) -> str:
    """The entity tag of a document: it changes with each character of its text."""
    return f'"{hashlib.sha256(text).hexdigest()[:_TAG_DIGITS]}"'


def whole(document: Access) -> Json:
    """A document as it can be given back to be put in its place."""
    entry = listed(document)
    return {
        "apiVersion": API_VERSION,
        "kind": entry["kind"],
        "metadata": {"name": entry["name"]},
        "spec": entry["spec"],
    }


def _texts(policy: Policy, files: Mapping[str, bytes]) -> dict[int, str]:
    """The text of each document, by identity."""
    by_file: dict[str, list[Access]] = {}
    for document in accesses(policy):
        by_file.setdefault(document.where.file, []).append(document)
    found: dict[int, str] = {}
    for name in by_file.keys() & files.keys():
        text = decoded(files[name])
        places = spans(text)
        for document in by_file[name]:
            span = span_at(places, document.where.line)
            if span:
                found[id(document)] = span.of(text)
    return found


def _value(value: Any) -> Any:  # noqa: ANN401 - any value of the model
    """Scalars that JSON does not know are text."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, tuple):
        return [_value(item) for item in value]
    if dataclasses.is_dataclass(value) and (named := yaml_fields(type(value))):
        lasting = _durations(value.__class__)
        pairs = (
            (name, _field(getattr(value, item.name), lasts=item.name in lasting))
            for name, item in named.items()
        )
        return {name: shown for name, shown in pairs if shown not in (None, [])}
    return str(value)


def _field(value: Any, *, lasts: bool) -> Any:  # noqa: ANN401 - any value of the model
    return duration(value) if lasts and value is not None else _value(value)


@cache
def _durations(model: type) -> frozenset[str]:
    """The fields that are written as durations."""
    hints = typing.get_type_hints(model, include_extras=True)
    return frozenset(name for name, hint in hints.items() if Seconds in _choices(hint))


def _choices(hint: object) -> Iterable[object]:
    return hint, *typing.get_args(hint)
