"""Whether inputs of a resource are what an SDK's ``…Args`` class says: names, types, what is due.

The SDK itself checks nothing when a program runs; a wrong argument is found by the cloud, halfway.
"""

from __future__ import annotations

import collections.abc
import enum
import inspect
import typing
from collections.abc import Iterator
from typing import Any

import pulumi

# Names that annotations of pulumi.Input use, which modules of SDKs don't import.
_NAMES = {"Output": pulumi.Output, "T": Any}
_WRAPPERS = (pulumi.Output, collections.abc.Awaitable)


def problems(arguments: type, inputs: dict[str, Any], path: str = "") -> Iterator[str]:
    """What is wrong with the inputs (names as they are sent) of a class of arguments."""
    kinds = _kinds(arguments)
    required = _required(arguments)
    for name in inputs:
        if name not in kinds:
            yield f"{path}{name} is no argument of {arguments.__name__}"
    for name, kind in kinds.items():
        if name in inputs:
            yield from _mismatch(kind, inputs[name], f"{path}{name}")
        elif name in required:
            yield f"{path}{name} is missing, which {arguments.__name__} requires"


def _kinds(arguments: type) -> dict[str, Any]:
    """Types of arguments by the name under which they are sent."""
    scope = vars(inspect.getmodule(arguments))
    hints = typing.get_type_hints(arguments.__init__, scope, _NAMES)  # type: ignore[misc]
    return {_sent(arguments, name): kind for name, kind in hints.items() if name != "return"}


def _required(arguments: type) -> set[str]:
    signature = inspect.signature(arguments.__init__)  # type: ignore[misc]
    return {
        _sent(arguments, name)
        for name, parameter in signature.parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
        and parameter.default is inspect.Parameter.empty
    }


def _sent(arguments: type, name: str) -> str:
    getter = getattr(arguments, name, None)
    sent = getattr(getattr(getter, "fget", None), "_pulumi_name", name)
    return str(sent)


def _mismatch(kind: Any, value: Any, path: str) -> Iterator[str]:  # noqa: ANN401 - any type, any JSON
    found = [list(_against(option, value, path)) for option in _options(kind)]
    if all(found):
        yield min(found, key=len)[0]


def _options(kind: Any) -> Iterator[Any]:  # noqa: ANN401 - as above
    """The types that a value may have, without what is only another way to give it later."""
    origin = typing.get_origin(kind)
    if origin is typing.Union:
        for option in typing.get_args(kind):
            yield from _options(option)
    elif origin not in _WRAPPERS and kind not in _WRAPPERS:
        yield kind


def _against(kind: Any, value: Any, path: str) -> Iterator[str]:  # noqa: ANN401 - as above
    origin = typing.get_origin(kind)
    if origin in (collections.abc.Sequence, list):
        yield from _each(kind, value, path)
    elif origin in (collections.abc.Mapping, dict):
        if not isinstance(value, dict):
            yield f"{path} should be a mapping, not {value!r}"
    elif isinstance(kind, type) and issubclass(kind, enum.Enum):
        if value not in {item.value for item in kind}:
            yield f"{path} should be one of {kind.__name__}, not {value!r}"
    elif isinstance(kind, type) and kind.__name__.endswith("Args"):
        if isinstance(value, dict):
            yield from problems(kind, value, f"{path}.")
        else:
            yield f"{path} should be {kind.__name__}, not {value!r}"
    elif kind is not Any and type(value) is not kind:
        yield f"{path} should be {getattr(kind, '__name__', kind)}, not {value!r}"


def _each(kind: Any, value: Any, path: str) -> Iterator[str]:  # noqa: ANN401 - as above
    if not isinstance(value, list):
        yield f"{path} should be a list, not {value!r}"
        return
    (item_kind,) = typing.get_args(kind)
    for index, item in enumerate(value):
        yield from _mismatch(item_kind, item, f"{path}[{index}]")
