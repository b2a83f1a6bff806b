"""YAML nodes into the model's dataclasses, with a finding for everything that does not fit.

A decoder is made once for each type from its annotations; see ``zt.values`` for scalars.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from functools import cache

from yaml import MappingNode, Node, ScalarNode, SequenceNode

from zt.nearest import did_you_mean, shown
from zt.position import Finding, Severity, Where, pack
from zt.values import LABEL_KEY, LABEL_VALUE, Scalar, StringMap

MAX_FINDINGS = 1000
_TAG = "tag:yaml.org,2002:"
MAPPING, SEQUENCE, TEXT, NULL = (_TAG + name for name in ("map", "seq", "str", "null"))
_TAG_NAMES = {
    "str": "text",
    "int": "a whole number",
    "float": "a number with a fraction",
    "bool": "true or false",
    "null": "nothing",
    "timestamp": "a day",
}


class Invalid(Exception):  # noqa: N818 - says that a value is; its finding has been recorded
    """A value did not fit; its finding has been recorded."""


class GivenUp(Exception):  # noqa: N818 - as Invalid
    """Nothing of the file is worth reading on; why has been recorded."""


@dataclass
class Context:
    """One file being read.

    ``budget`` bounds the nodes that may be visited. Each node of a file takes at least one
    character to write, so only an alias that multiplies its anchor can use it up.
    """

    file: str
    budget: int
    findings: list[Finding] = field(default_factory=list)
    document: str = ""
    rule: str | None = None

    def error(self, code: str, node: Node, message: str) -> Invalid:
        """Record a finding at a node.

        Raises:
            GivenUp: after so many that nobody reads them all.
        """
        where = self.where(node)
        self.findings.append(Finding(Severity.ERROR, code, where, message, self.rule))
        if len(self.findings) == MAX_FINDINGS:
            message = f"{MAX_FINDINGS} findings in this file: the rest of it is not read"
            self.findings.append(Finding(Severity.ERROR, "too-much", where, message))
            raise GivenUp
        return Invalid()

    def where(self, node: Node) -> Where:
        """Position of a node."""
        return Where(self.file, node.start_mark.line + 1, node.start_mark.column + 1)

    def visit(self, node: Node, count: int = 1) -> None:
        """Count nodes: this one, or this one and those in it."""
        self.budget -= count
        if self.budget < 0:
            self.error("alias-bomb", node, "aliases expand to more than the file holds")
            raise GivenUp


Decoder = Callable[[Node, Context], object]
Entries = dict[str, tuple[Node, Node]]


def yaml_name(item: dataclasses.Field[object]) -> str:
    """A field's name in YAML."""
    given: str | None = item.metadata.get("yaml")
    if given:
        return given
    head, *tail = item.name.split("_")
    return head + "".join(part.capitalize() for part in tail)


def yaml_fields(model: type) -> dict[str, dataclasses.Field[object]]:
    """The fields of a dataclass that are written in YAML, by their YAML names."""
    return {yaml_name(item): item for item in dataclasses.fields(model) if item.metadata}


def is_required(item: dataclasses.Field[object]) -> bool:
    """Whether a field has no default."""
    return item.default is dataclasses.MISSING


@cache
def decoder_of(model: type) -> Decoder:
    """The decoder of a dataclass of the model."""
    hints = typing.get_type_hints(model, include_extras=True)
    fields = {
        name: (item.name, name, _decoder(hints[item.name], item))
        for name, item in yaml_fields(model).items()
    }
    keys = [name for name, item in yaml_fields(model).items() if is_required(item)]
    required = set(keys)

    def decode(node: Node, context: Context) -> object:
        found = entries(node, context, keys)
        sound = required <= found.keys() or _missing(model, required - found.keys(), node, context)
        values: dict[str, object] = {}
        marks: list[tuple[str, int | tuple[int, ...]]] = []
        for key, (key_node, value_node) in found.items():
            known = fields.get(key)
            if known is None:
                message = f"{shown(key)} is not a key of {model.__name__}"
                context.error("unknown-key", key_node, message + did_you_mean(key, fields))
                sound = False
                continue
            attribute, name, decode_value = known
            try:
                values[attribute] = decode_value(value_node, context)
            except Invalid:
                sound = False
            else:
                marks.append((name, _mark(value_node)))
        if not sound:
            raise Invalid
        start = node.start_mark
        where = Where(context.file, start.line + 1, start.column + 1, tuple(marks))
        return model(where=where, **values)

    return decode


def _missing(model: type, names: set[str], node: Node, context: Context) -> bool:
    """Say which keys are missing; false, as the mapping isn't sound."""
    for name, item in yaml_fields(model).items():
        if name in names:
            message = f"{model.__name__} needs {name!r}: {item.metadata['doc']}"
            context.error("missing-key", node, message)
    return False


def _mark(node: Node) -> int | tuple[int, ...]:
    """Position of a value; those of its items where it is a list of scalars."""
    if node.__class__ is SequenceNode:
        items = node.value
        if items and items[0].__class__ is ScalarNode:
            return tuple(map(_packed, items))
    return _packed(node)


def _packed(node: Node) -> int:
    mark = node.start_mark
    return pack(mark.line + 1, mark.column + 1)


def entries(node: Node, context: Context, keys: Iterable[str] = ()) -> Entries:
    """Key and value nodes of a mapping, by key; refuses anything else and duplicate keys.

    ``keys`` are those that it must have, for the message where it is no mapping.
    """
    if node.__class__ is not MappingNode or node.tag != MAPPING:
        needed = " and ".join(map(repr, keys))
        what = f"a mapping with {needed}" if needed else "a mapping"
        raise context.error("wrong-type", node, f"expected {what}, found {kind_of(node)}")
    pairs = node.value
    context.visit(node, 1 + len(pairs))
    found: Entries = {}
    for pair in pairs:
        key = pair[0]
        if key.__class__ is ScalarNode and key.tag == TEXT and key.value not in found:
            found[key.value] = pair
        else:
            _refuse_key(key, found, context)
    return found


def _refuse_key(key: Node, found: Entries, context: Context) -> None:
    if not isinstance(key, ScalarNode):
        context.error("wrong-type", key, f"a key should be text, not {kind_of(key)}")
    elif key.tag == _TAG + "merge":
        context.error("merge-key", key, "'<<' merges nothing here: write the keys out")
    elif key.tag != TEXT:
        message = f"key {shown(key.value)} should be text, and is {kind_of(key)} to YAML: quote it"
        context.error("wrong-type", key, message)
    else:
        first = context.where(found[key.value][0])
        message = f"key {shown(key.value)} is given twice, first at line {first.line}"
        context.error("duplicate-key", key, message)


def kind_of(node: Node) -> str:
    """What a node is to YAML; where a tag says that it is something else, that as well."""
    if isinstance(node, ScalarNode):
        name = _TAG_NAMES.get(node.tag.removeprefix(_TAG))
        return name or f"a value tagged {shown(node.tag)}"
    own, shape = (MAPPING, "a mapping") if isinstance(node, MappingNode) else (SEQUENCE, "a list")
    return shape if node.tag == own else f"{shape} tagged {shown(node.tag)}"


def _decoder(hint: object, item: dataclasses.Field[object]) -> Decoder:
    """The decoder of a field's type."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        (inner,) = (arg for arg in typing.get_args(hint) if arg is not types.NoneType)
        return _decoder(inner, item)
    if typing.get_origin(hint) is typing.Annotated:
        return _annotated(typing.get_args(hint)[1])
    if typing.get_origin(hint) is tuple:
        return _list(_decoder(typing.get_args(hint)[0], item), item)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return _choice(hint, item)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return decoder_of(hint)
    raise TypeError(f"{item.name}: no decoder for {hint!r}")


def _annotated(marker: object) -> Decoder:
    if isinstance(marker, Scalar):
        return _scalar(marker)
    if isinstance(marker, StringMap):
        return _string_map
    raise TypeError(f"no decoder for {marker!r}")


def _scalar(scalar: Scalar) -> Decoder:
    tags = frozenset(_TAG + tag for tag in scalar.tags)
    parse = scalar.parse

    def decode(node: Node, context: Context) -> object:
        context.visit(node)
        if node.tag not in tags or node.__class__ is not ScalarNode:
            raise context.error("wrong-type", node, _type_message(scalar, node))
        try:
            return parse(node.value)
        except ValueError as error:
            raise context.error("bad-value", node, str(error)) from None

    return decode


def _type_message(scalar: Scalar, node: Node) -> str:
    if not isinstance(node, ScalarNode) or not node.value:
        return f"expected {scalar.what}, found {kind_of(node)}"
    hint = ""
    if node.tag.removeprefix(_TAG) in _TAG_NAMES and _fits(scalar, node.value):
        hint = ": quote it" if "str" in scalar.tags else ": take the quotes away"
    return f"expected {scalar.what}, found {kind_of(node)} {shown(node.value)}{hint}"


def _fits(scalar: Scalar, text: str) -> bool:
    try:
        scalar.parse(text)
    except ValueError:
        return False
    return True


def _choice(enum: type[Enum], item: dataclasses.Field[object]) -> Decoder:
    members = {str(member.value): member for member in enum}

    def decode(node: Node, context: Context) -> object:
        context.visit(node)
        scalar = node.__class__ is ScalarNode
        if scalar and node.tag == TEXT and node.value in members:
            return members[node.value]
        found = shown(node.value) if scalar else kind_of(node)
        problem = f"is not one of {', '.join(members)}"
        if len(members) == 1:
            problem = f"is refused: {item.metadata['doc']}"
        raise context.error("bad-value", node, f"{found} {problem}")

    return decode


def _string_map(node: Node, context: Context) -> object:
    name, value = _scalar(LABEL_KEY), _scalar(LABEL_VALUE)
    return tuple(
        sorted(
            (str(name(key_node, context)), str(value(value_node, context)))
            for key_node, value_node in entries(node, context).values()
        )
    )


def _list(decode_item: Decoder, item: dataclasses.Field[object]) -> Decoder:
    may_be_empty = item.metadata["empty"]
    name = yaml_name(item)
    numbered = name == "rules"

    def decode(node: Node, context: Context) -> object:
        context.visit(node)
        if node.__class__ is not SequenceNode or node.tag != SEQUENCE:
            raise context.error(
                "wrong-type", node, f"{name}: expected a list, found {kind_of(node)}"
            )
        if not node.value and not may_be_empty:
            raise context.error("empty-list", node, f"{name} is empty: {item.metadata['doc']}")
        values, sound = [], True
        for number, child in enumerate(node.value, 1):
            if numbered:
                context.rule = f"{context.document}/rule-{number}"
            try:
                values.append(decode_item(child, context))
            except Invalid:
                sound = False
        if numbered:
            context.rule = None
        if not sound:
            raise Invalid
        return tuple(values)

    return decode
