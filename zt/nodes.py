"""The bytes of a policy file into YAML nodes; what is no YAML becomes a finding."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import yaml
from yaml import Node, ScalarNode, SequenceNode
from yaml.reader import Reader
from yaml.resolver import Resolver

from zt.decode import MAPPING, NULL, SEQUENCE, TEXT, Context
from zt.position import Finding, Severity, Where

# The language needs eight. The parser calls itself for each level, and has only so much stack.
MAX_DEPTH = 64
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


class _TooDeep(yaml.MarkedYAMLError):
    """More levels of nesting than the language has."""


# The C parser is ten times faster; a PyYAML built without it still works.
class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """A loader that counts levels and tells a scalar's type once for each text."""

    depth = 0

    def descend_resolver(self, parent: Node | None, _index: object) -> None:
        """The parser enters a node: no node of the language lies deep."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            mark = parent.start_mark if parent else None
            raise _TooDeep(None, None, f"more than {MAX_DEPTH} levels of nesting", mark)

    def ascend_resolver(self) -> None:
        """The parser leaves a node."""
        self.depth -= 1

    def resolve(self, kind: type[Node], value: str, implicit: tuple[bool, bool]) -> str:
        """The tag of a node that carries none, by YAML 1.1."""
        if kind is ScalarNode:
            return _plain_tag(value) if implicit[0] else TEXT
        return SEQUENCE if kind is SequenceNode else MAPPING


@lru_cache(maxsize=1 << 14)
def _plain_tag(value: str) -> str:
    candidates: list[tuple[str, Any]] = Resolver.yaml_implicit_resolvers.get(value[:1], [])
    return next((tag for tag, pattern in candidates if pattern.match(value)), TEXT)


def nodes(context: Context, data: bytes) -> Iterator[Node]:
    """The documents of a file, each as soon as it is read: a large file is never held whole."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        context.findings.append(_not_utf8(context.file, data, error.start))
        return
    try:
        for node in yaml.compose_all(text, Loader=_Loader):
            if not _is_nothing(node):
                yield node
    except (yaml.YAMLError, UnicodeError) as error:
        context.findings.append(_not_yaml(context.file, text, error))


def _is_nothing(node: Node) -> bool:
    """An empty document, as a trailing ``---`` makes one."""
    return isinstance(node, ScalarNode) and node.tag == NULL and not node.value


def _not_utf8(file: str, data: bytes, start: int) -> Finding:
    line_start = data.rfind(b"\n", 0, start) + 1
    column = len(data[line_start:start].decode("utf-8", "replace")) + 1
    where = Where(file, data.count(b"\n", 0, start) + 1, column)
    found = "the file is UTF-16" if data[:2] in _UTF16 else f"byte 0x{data[start]:02x} is not UTF-8"
    return Finding(Severity.ERROR, "not-utf-8", where, f"{found}: save the file as UTF-8")


def _not_yaml(file: str, text: str, error: Exception) -> Finding:
    if isinstance(error, yaml.MarkedYAMLError):
        where, problem = _marked(file, text, error)
    else:
        where, problem = _unreadable_character(file, text)
    return Finding(Severity.ERROR, "not-yaml", where, f"not YAML: {problem}")


def _marked(file: str, text: str, error: yaml.MarkedYAMLError) -> tuple[Where, str]:
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return Where(file, 1, 1), str(error.problem)
    where = Where(file, mark.line + 1, mark.column + 1)
    at = text[mark.index : mark.index + 1]
    if at == "\t":
        return where, "a tab cannot indent YAML: use spaces"
    if at and at in "@`%" and "cannot start" in str(error.problem):
        return where, f"{at!r} cannot start a value: quote the value"
    begun = error.context_mark
    context = f" {error.context} that starts at line {begun.line + 1}" if begun else ""
    return where, f"{error.problem}{context}"


def _unreadable_character(file: str, text: str) -> tuple[Where, str]:
    """The parser says what a character is, but not in which line it stands."""
    found = Reader.NON_PRINTABLE.search(text)
    if found is None:
        return Where(file, 1, 1), "it holds a character that YAML has no place for"
    line = text.count("\n", 0, found.start()) + 1
    column = found.start() - text.rfind("\n", 0, found.start())
    message = f"character U+{ord(found[0]):04X} cannot stand in YAML"
    return Where(file, line, column), message
