"""Compiled objects as readable, deterministic YAML with comments.

A comment is attached with ``note``; ``plain`` takes all comments off again, for whoever needs the
bare object. PyYAML writes no comments, and takes ten times as long.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./:+=-]*")
_ASTRAL = re.compile(r"([\U00010000-\U0010ffff])")
# Stands around the name of a blank; no text of a policy holds it.
_BLANK = "\0"
_RESERVED = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})


@dataclass(frozen=True, slots=True)
class Noted:
    """A value with the comment that is written above it."""

    value: Any
    comment: str


# Told apart by identity, also in the text by which `Fragments` knows equal values.
@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Fragment:
    """A value that stands in many places, and is written out once for each depth."""

    value: Any
    written: dict[str, str] = field(default_factory=dict)


def blank(name: str) -> str:
    """A scalar of a ``Form`` that is filled in later."""
    return f"{_BLANK}{name}{_BLANK}"


@dataclass(frozen=True, slots=True, eq=False)
class Form:
    """A value with blanks, written out once for each depth and filled in many times."""

    value: Any
    written: dict[str, list[str]] = field(default_factory=dict)

    def fill(self, **blanks: str | int) -> Filled:
        """The value with its blanks filled."""
        return Filled(self, blanks)


@dataclass(frozen=True, slots=True)
class Filled:
    """A form and what is in its blanks."""

    form: Form
    blanks: dict[str, str | int]


class Fragments:
    """Makes one ``Fragment`` of all equal values, and each ``Form`` once."""

    def __init__(self) -> None:
        self._known: dict[str, Fragment] = {}
        self._forms: dict[Hashable, Form] = {}

    def form(self, key: Hashable, build: Callable[[], Any]) -> Form:
        """The form of that key, built where it is new."""
        found = self._forms.get(key)
        if found is None:
            found = self._forms[key] = Form(build())
        return found

    def of(self, value: Any) -> Fragment:  # noqa: ANN401 - any JSON value
        """The fragment of a value."""
        return self._known.setdefault(repr(value), Fragment(value))


def note(value: Any, comment: str) -> Noted:  # noqa: ANN401 - any JSON value
    """Attach a comment to a value."""
    return Noted(value, comment)


def plain(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """The value without comments."""
    if isinstance(value, Noted | Fragment):
        return plain(value.value)
    if isinstance(value, Filled):
        return _filled_in(plain(value.form.value), value.blanks)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def _filled_in(value: Any, blanks: dict[str, str | int]) -> Any:  # noqa: ANN401
    if isinstance(value, dict):
        return {key: _filled_in(item, blanks) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled_in(item, blanks) for item in value]
    if isinstance(value, str) and value.startswith(_BLANK):
        return blanks[value.strip(_BLANK)]
    return value


def to_yaml(value: Any, header: str = "") -> str:  # noqa: ANN401 - any JSON value
    """Write a value as one YAML document; keys stay in the order in which they were put."""
    lines = _comment(header, "")
    value = _without_comment(value, "", lines)
    block = _BLOCKS.get(value.__class__)
    if block and value:
        block(value, "", lines)
    else:
        lines.append(_scalar(value))
    return "\n".join(lines) + "\n"


def _without_comment(value: Any, indent: str, lines: list[str]) -> Any:  # noqa: ANN401
    """Write a value's comment, and return the value."""
    if value.__class__ is not Noted:
        return value
    lines.extend(_comment(value.comment, indent))
    return value.value


def _comment(text: str, indent: str) -> list[str]:
    """Lines of comment. What cannot be printed YAML refuses, even there."""
    shown = (line if line.isprintable() else repr(line)[1:-1] for line in text.splitlines())
    return [f"{indent}# {line}".rstrip() for line in shown]


def _mapping(value: dict[str, Any], indent: str, lines: list[str]) -> None:
    # Most of a compile is spent here, so the common case, text, comes first.
    for key, given in value.items():
        if given.__class__ is str:
            lines.append(f"{indent}{_string(key)}: {_string(given)}")
            continue
        item = _without_comment(given, indent, lines)
        block = _BLOCKS.get(item.__class__)
        if block and item:
            lines.append(f"{indent}{_string(key)}:")
            block(item, indent + "  ", lines)
        else:
            lines.append(f"{indent}{_string(key)}: {_scalar(item)}")


def _sequence(value: list[Any], indent: str, lines: list[str]) -> None:
    for given in value:
        item = _without_comment(given, indent, lines)
        block = _BLOCKS.get(item.__class__)
        if block and item:
            start = len(lines)
            block(item, indent + "  ", lines)
            _dash(lines, start, len(indent))
        else:
            lines.append(f"{indent}- {_scalar(item)}")


def _fragment(value: Fragment, indent: str, lines: list[str]) -> None:
    text = value.written.get(indent)
    if text is None:
        own: list[str] = []
        _BLOCKS[value.value.__class__](value.value, indent, own)
        text = value.written[indent] = "\n".join(own)
    lines.append(text)


def _filled(value: Filled, indent: str, lines: list[str]) -> None:
    parts = value.form.written.get(indent)
    if parts is None:
        own: list[str] = []
        _BLOCKS[value.form.value.__class__](value.form.value, indent, own)
        parts = value.form.written[indent] = "\n".join(own).split(_BLANK)
    text = parts.copy()
    # Every second part is the name of a blank.
    for index in range(1, len(text), 2):
        found = value.blanks[text[index]]
        # What fills blanks is different each time: it would only push others out of the cache.
        text[index] = _quoted(found) if found.__class__ is str else _scalar(found)
    lines.append("".join(text))


_BLOCKS: dict[type, Callable[[Any, str, list[str]], None]] = {
    dict: _mapping,
    list: _sequence,
    tuple: _sequence,
    Fragment: _fragment,
    Filled: _filled,
}


def _dash(lines: list[str], start: int, depth: int) -> None:
    """Put the dash of a list item before its first line that is no comment."""
    while lines[start][depth + 2] == "#":
        lines[start] = lines[start][2:]
        start += 1
    lines[start] = f"{lines[start][:depth]}- {lines[start][depth + 2 :]}"


def _scalar(value: Any) -> str:  # noqa: ANN401
    kind = value.__class__
    if kind is int:
        return str(value)
    if isinstance(value, str):
        return _string(str(value))
    if isinstance(value, float):
        # YAML 1.1 knows a number with an exponent only by its point.
        number = json.dumps(value, allow_nan=False)
        return number if "." in number else number.replace("e", ".0e")
    if value is None or isinstance(value, bool | int):
        return json.dumps(value)
    if isinstance(value, dict | list | tuple):
        return "{}" if isinstance(value, dict) else "[]"
    raise TypeError(f"{value!r} is no JSON value")


@lru_cache(maxsize=1 << 12)
def _string(text: str) -> str:
    """A string as most recur: keys, types, words of the API."""
    return _quoted(text)


def _quoted(text: str) -> str:
    """A string, quoted only where YAML 1.1 or 1.2 would read it as something else."""
    if text.startswith(_BLANK):
        return text
    if _PLAIN.fullmatch(text) and text.lower() not in _RESERVED and text[-1] != ":":
        return text
    return f'"{"".join(map(_escaped, _ASTRAL.split(text)))}"'


def _escaped(part: str) -> str:
    """Text within quotes: as JSON, but that YAML has no pairs of surrogates."""
    return f"\\U{ord(part):08x}" if _ASTRAL.fullmatch(part) else json.dumps(part)[1:-1]
