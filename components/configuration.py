"""The stack's configuration file into ``StackSettings``, and what is wrong with it in one sentence.

Pulumi checks a value's outermost type against ``Pulumi.yaml``; what is inside is checked here, by
the types of ``components.settings`` themselves.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, NoReturn, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import pulumi
from pulumi.runtime.config import CONFIG, get_config_env

from components.settings import Adopted, StackSettings
from zt.nearest import did_you_mean, shown

PROJECT = "hanzo-zt"

_CALLED: dict[type, str] = {str: "text", int: "a whole number", bool: "true or false"}
_T = TypeVar("_T")


class ConfigurationError(pulumi.RunError):
    """A stack that can't be brought up as it is configured; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Key:
    """Where a value stands in the configuration, e.g. ``hanzo-zt:spire.authority``."""

    path: str

    def of(self, name: str | int) -> Key:
        """A value inside."""
        separator = ":" if self.path == PROJECT else "."
        return Key(
            f"{self.path}[{name}]" if isinstance(name, int) else self.path + separator + name
        )

    def refuse(self, problem: str) -> NoReturn:
        """Stop, and name the key.

        Raises:
            ConfigurationError: always.
        """
        raise ConfigurationError(f"{self.path} {problem}")


ROOT = Key(PROJECT)


def configured() -> dict[str, str]:
    """All values of this project in the stack's configuration, each as Pulumi hands it over."""
    everything = {**get_config_env(), **CONFIG.get()}
    prefix = f"{PROJECT}:"
    return {
        key.removeprefix(prefix): value
        for key, value in everything.items()
        if key.startswith(prefix)
    }


def stack_settings(values: Mapping[str, str], root: Path) -> StackSettings:
    """Read a stack's settings from its configuration: text by key, JSON where it is more than text.

    Paths in it are relative to ``root``, the checkout; a kubeconfig's may begin with ``~``.

    Raises:
        ConfigurationError: if a key is missing, unknown, or of another type.
    """
    kinds = _kinds(StackSettings)
    parsed = {
        key: _parsed(value, kinds.get(key), ROOT.of(key))
        for key, value in values.items()
        if value  # empty text is what Pulumi hands over for nothing
    }
    settings = _object(StackSettings, parsed, ROOT)
    settings = replace(settings, policies=str(_from_here(root / settings.policies)))
    if not isinstance(settings.kubernetes, Adopted):
        return settings
    path = root / Path(settings.kubernetes.kubeconfig).expanduser()
    return replace(settings, kubernetes=replace(settings.kubernetes, kubeconfig=str(path)))


def _from_here(path: Path) -> Path:
    """A path as a person would write it, for what names it in messages."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _parsed(value: str, kind: object, key: Key) -> object:
    if kind is str or kind is None:
        return value
    try:
        return json.loads(value)
    except ValueError:
        return key.refuse(f"should be {_called(kind)}, not {shown(value)}")


def _decode(kind: Any, value: object, key: Key) -> Any:  # noqa: ANN401 - as the type says
    """A JSON value as one of the types that settings are made of."""
    if get_origin(kind) in (UnionType, Union):
        return _alternative(get_args(kind), value, key)
    if get_origin(kind) is tuple:
        (item, *_) = get_args(kind)
        return _pairs(value, key) if get_origin(item) is tuple else _list(item, value, key)
    if is_dataclass(kind):
        return _object(cast("type[Any]", kind), _mapping(value, kind, key), key)
    # A bool is an int to Python, and to nobody else.
    if type(value) is not kind or value == "":
        key.refuse(f"should be {_called(kind)}, not {_value(value)}{_hint(kind, value)}")
    return value


def _object(kind: type[_T], values: Mapping[str, object], key: Key) -> _T:
    kinds = _kinds(kind)
    for name in values:
        if name not in kinds:
            key.of(name).refuse(f"is not a key that is known{did_you_mean(name, kinds)}: remove it")
    required = [_camel(item.name) for item in fields(cast("Any", kind)) if _required(item)]
    for name in required:
        if name not in values:
            key.of(name).refuse(f"is missing: it should be {_called(kinds[name])}")
    decoded = {
        item.name: _decode(kinds[name], values[name], key.of(name))
        for item in fields(cast("Any", kind))
        if (name := _camel(item.name)) in values
    }
    return kind(**decoded)


def _alternative(kinds: tuple[Any, ...], value: object, key: Key) -> Any:  # noqa: ANN401 - one of kinds
    """One of several kinds by its tag; or nothing, where that is one of them."""
    if value is None and NoneType in kinds:
        return None
    tagged = {kind.TAG: kind for kind in kinds if hasattr(kind, "TAG")}
    plain = [kind for kind in kinds if kind is not NoneType]
    if len(plain) == 1 or len(tagged) <= 1:
        return _decode(next(iter(tagged.values()), plain[0]), value, key)
    if not isinstance(value, dict) or len(value) != 1:
        key.refuse(f"should be {_either(plain)}, not {_value(value)}")
    ((tag, inner),) = value.items()
    if tag not in tagged:
        key.of(tag).refuse(f"is not a key that is known{did_you_mean(tag, tagged)}")
    return _decode(tagged[tag], inner, key.of(tag))


def _list(kind: object, value: object, key: Key) -> tuple[Any, ...]:
    if not isinstance(value, list):
        key.refuse(f"should be a list, not {_value(value)}")
    return tuple(_decode(kind, item, key.of(index)) for index, item in enumerate(value))


def _pairs(value: object, key: Key) -> tuple[tuple[str, str], ...]:
    items = sorted(_mapping(value, dict, key).items())
    return tuple((name, _decode(str, item, key.of(name))) for name, item in items)


def _mapping(value: object, kind: object, key: Key) -> Mapping[str, object]:
    if not isinstance(value, dict):
        key.refuse(f"should be {_called(kind)}, not {_value(value)}")
    return value


# --- What messages say ----------------------------------------------------------------------------


def _called(kind: Any) -> str:  # noqa: ANN401 - a type, or a union of them
    """What a value of a type is called."""
    if kind in _CALLED:
        return _CALLED[kind]
    if len(get_args(kind)) > 1 and get_origin(kind) is not tuple:
        return _either(get_args(kind))
    if is_dataclass(kind):
        names = [_camel(item.name) for item in fields(kind)]
        return f"a mapping with {', '.join(names)}"
    return "a list" if get_origin(kind) is tuple else "a mapping"


def _either(kinds: Sequence[Any]) -> str:
    return "a mapping with one key, " + " or ".join(kind.TAG for kind in kinds)


def _value(value: object) -> str:
    """A value that was found; of a mapping its keys, so that no secret is repeated."""
    if isinstance(value, dict):
        return f"a mapping with {', '.join(map(str, value)) or 'nothing in it'}"
    return "a list" if isinstance(value, list) else shown(json.dumps(value).strip('"'))


def _hint(kind: object, value: object) -> str:
    """What to do where YAML took text for something else."""
    number = kind is str and isinstance(value, (int, float))
    return ": put it in quotes" if number else ""


# --- Fields ---------------------------------------------------------------------------------------


def _kinds(kind: type) -> dict[str, Any]:
    """Types of the fields, by the names they have in the configuration."""
    hints = get_type_hints(kind)
    return {_camel(item.name): _plain(hints[item.name]) for item in fields(cast("Any", kind))}


def _plain(kind: Any) -> Any:  # noqa: ANN401 - a type, or a union of them
    """What may become an output later is text in a file."""
    return str | None if str in get_args(kind) else kind


def _required(item: Field[Any]) -> bool:
    return item.default is MISSING and item.default_factory is MISSING


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
