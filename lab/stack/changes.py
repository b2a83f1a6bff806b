"""What the engine says it did, or would do: resources, and which of their fields."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pulumi.automation import EngineEvent, StepEventMetadata

# Nothing happens to these: a resource that stays, is read, or belongs to the engine itself.
_QUIET = frozenset({"same", "read", "refresh", "discard", "remove-pending-replace"})
_INTERNAL = "pulumi:"
_STEP = re.compile(r'\.?([A-Za-z_][\w-]*)|\[(\d+)\]|\["((?:[^"\\]|\\.)*)"\]')
_SIGNS = {"create": "+", "delete": "-", "update": "~"}
_LONGEST = 200


@dataclass(frozen=True, slots=True)
class Field:
    """A field that changes; ``before`` or ``after`` is ``None`` where it is not there."""

    path: str
    kind: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class Change:
    """A resource that changes, by its type token and name, and how: ``create``, ``update``, ..."""

    operation: str
    type: str
    name: str
    fields: tuple[Field, ...] = ()

    def __str__(self) -> str:
        sign = _SIGNS.get(self.operation, "±")
        lines = [f"{sign} {self.type} {self.name}"]
        for field in self.fields:
            lines += [f"    {line}" for line in _shown(field)]
        return "\n".join(lines)


def changes(events: Iterable[EngineEvent]) -> tuple[Change, ...]:
    """All that changed, or would, in the order of the events."""
    # A component is told of twice: when it begins, and with its outputs.
    found = {
        (step.op, step.urn): step
        for step in steps(events)
        if step.op.value not in _QUIET and not step.type.startswith(_INTERNAL)
    }
    return tuple(map(_change, found.values()))


def steps(events: Iterable[EngineEvent]) -> Iterator[StepEventMetadata]:
    """Each step's outcome."""
    for event in events:
        if event.res_outputs_event is not None:
            yield event.res_outputs_event.metadata


def messages(events: Iterable[EngineEvent]) -> tuple[str, ...]:
    """Warnings and errors."""
    return tuple(
        event.diagnostic_event.message.strip()
        for event in events
        if event.diagnostic_event is not None
        and event.diagnostic_event.severity in ("warning", "error")
    )


def _change(step: StepEventMetadata) -> Change:
    name = step.urn.rpartition("::")[2]
    kind = step.type.removeprefix("kubernetes:")
    return Change(step.op.value, kind, name, tuple(_fields(step)))


def _fields(step: StepEventMetadata) -> Iterator[Field]:
    before = step.old.inputs if step.old else {}
    after = step.new.inputs if step.new else {}
    for path, difference in sorted((step.detailed_diff or {}).items()):
        yield Field(
            path, difference.diff_kind.value, _found(before or {}, path), _found(after or {}, path)
        )


def _found(value: Any, path: str) -> Any:  # noqa: ANN401 - any JSON
    """What is at a path in inputs."""
    for word, index, quoted in _STEP.findall(path):
        if index and isinstance(value, list):
            value = value[int(index)] if int(index) < len(value) else None
        elif isinstance(value, Mapping):
            value = value.get(word or json.loads(f'"{quoted}"'))
        else:
            return None
    return value


def _shown(field: Field) -> Iterator[str]:
    """A field as it was and is; of a text, the lines that differ."""
    if not (_is_text(field.before) and _is_text(field.after)):
        yield f"{field.path}: {_short(field.before)} -> {_short(field.after)}"
        return
    yield f"{field.path}:"
    before, after = field.before.splitlines(), field.after.splitlines()
    for line in difflib.unified_diff(before, after, n=0, lineterm=""):
        if not line.startswith(("---", "+++", "@@")):
            yield f"    {line}"


def _is_text(value: Any) -> bool:  # noqa: ANN401 - any JSON
    return isinstance(value, str) and "\n" in value


def _short(value: Any) -> str:  # noqa: ANN401 - any JSON
    if value is None:
        return "nothing"
    text = json.dumps(value, sort_keys=True)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}... ({len(text)} characters)"
