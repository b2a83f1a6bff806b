"""Property values as the engine sends them: JSON in a protobuf Struct, with two kinds of mark.

A secret is an object with a signature around its value. What is not known yet, in a preview, is one
certain string.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from google.protobuf.struct_pb2 import ListValue, Struct, Value

Json = dict[str, Any]
Path = tuple[str | int, ...]

UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
_SIGNATURE = "4dabf18193072939515e22adb298388d"
_SECRET = "1b47061264138c4ac30d75fd1eb44270"  # noqa: S105 - says that a secret follows


def decoded(properties: Struct) -> tuple[Json, frozenset[Path]]:
    """Plain JSON, and where in it the secrets are."""
    secrets: set[Path] = set()
    plain = _object(properties, (), secrets)
    return plain, frozenset(secrets)


def encoded(plain: Mapping[str, Any], secrets: frozenset[Path] = frozenset()) -> Struct:
    """The same as a Struct; paths of secrets that lead nowhere are of no effect."""
    wrapped = _wrapped(plain, (), secrets)
    properties = Struct()
    properties.update(wrapped)
    return properties


def value_in(properties: Struct, key: str) -> Any:  # noqa: ANN401 - any JSON
    """One value of it as plain JSON; ``None`` where there is none."""
    if key not in properties.fields:  # to ask for it would put it there
        return None
    return _plain(properties.fields[key], (key,), set())


def has_unknown(value: Any) -> bool:  # noqa: ANN401 - any JSON
    """Whether some value in it is not known yet."""
    return any(leaf == UNKNOWN for leaf in _leaves(value))


def _object(properties: Struct, path: Path, secrets: set[Path]) -> Json:
    return {key: _plain(value, (*path, key), secrets) for key, value in properties.fields.items()}


def _plain(value: Value, path: Path, secrets: set[Path]) -> Any:  # noqa: ANN401 - any JSON
    match value.WhichOneof("kind"):
        case "struct_value":
            return _unwrapped(value.struct_value, path, secrets)
        case "list_value":
            return _list(value.list_value, path, secrets)
        case "number_value":
            return _number(value.number_value)
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
    return None


def _unwrapped(found: Struct, path: Path, secrets: set[Path]) -> Any:  # noqa: ANN401 - any JSON
    if _SIGNATURE not in found.fields:
        return _object(found, path, secrets)
    if found.fields[_SIGNATURE].string_value != _SECRET:
        raise ValueError(f"{path}: neither JSON nor a secret")
    secrets.add(path)
    return _plain(found.fields["value"], path, secrets)


def _list(found: ListValue, path: Path, secrets: set[Path]) -> list[Any]:
    return [_plain(item, (*path, index), secrets) for index, item in enumerate(found.values)]


def _number(value: float) -> int | float:
    """Protobuf has no integers; Kubernetes takes no port 8054.0."""
    return int(value) if value.is_integer() else value


def _wrapped(value: Any, path: Path, secrets: frozenset[Path]) -> Any:  # noqa: ANN401 - any JSON
    inner = value
    if isinstance(value, Mapping):
        inner = {key: _wrapped(item, (*path, key), secrets) for key, item in value.items()}
    elif isinstance(value, list):
        inner = [_wrapped(item, (*path, index), secrets) for index, item in enumerate(value)]
    return {_SIGNATURE: _SECRET, "value": inner} if path in secrets else inner


def _leaves(value: Any) -> Iterator[Any]:  # noqa: ANN401 - any JSON
    if isinstance(value, Mapping):
        for item in value.values():
            yield from _leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    else:
        yield value
