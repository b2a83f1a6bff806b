"""One document of a policy, exchanged for another: pure, on the texts of the files.

The rest of the file stays as it is, comments and all. What comes out is checked as ``zt check``
checks it, and compared with what was there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date

import orjson
from yaml import MappingNode, Node, ScalarNode

from engine.http.documents import KINDS, accesses, tag_of
from engine.http.spans import Span, decoded, span_at, spans
from zt.check import check
from zt.decode import Context
from zt.emit import to_yaml
from zt.load import load_texts
from zt.model import Document, Policy
from zt.nodes import nodes
from zt.position import Finding, Severity, Where

BODY = "<body>"
# Lines of files that are lines of the body.
Lines = Mapping[tuple[str, int], int]


@dataclass(frozen=True, slots=True)
class Change:
    """A change that is asked for.

    ``tags`` are the entity tags that the document may have now; ``None`` is any, an empty tuple
    says that there should be none of that name.
    """

    name: str
    body: bytes
    is_json: bool
    tags: tuple[str, ...] | None
    kind: str | None = None


class ChangeRefused(Exception):  # noqa: N818 - no error of ours
    """A change can't be made: HTTP status, a code for machines, a sentence, and findings."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        findings: tuple[Finding, ...] = (),
        lines: Lines | None = None,
    ) -> None:
        """Keep all of it."""
        self.status, self.code, self.detail = status, code, detail
        self.findings = findings
        self.lines = lines or {}
        super().__init__(detail)


@dataclass(frozen=True, slots=True)
class Edited:
    """What a change makes: the file's new content, the document's new tag, and both policies."""

    file: str
    content: bytes
    tag: str
    old: Policy | None
    new: Policy
    warnings: tuple[Finding, ...]
    lines: Lines = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Body:
    """``line`` is that of its first key, or 0 where it came as JSON."""

    text: str
    kind: str
    line: int


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a document stands; without a span it is to be a new file."""

    file: str
    text: str
    span: Span | None


def edit(files: Mapping[str, bytes], change: Change, today: date) -> Edited:
    """Make a change.

    Raises:
        ChangeRefused: if it can't be made.
    """
    body = _body(change)
    place = _place(files, change, body.kind)
    text = place.span.replaced(place.text, _fitted(place.text, body.text)) if place.span else None
    content = (text if text is not None else body.text + "\n").encode()
    old = load_texts(sorted(files.items())).policy
    changed = dict(files) | {place.file: content}
    new, warnings, lines = _checked(changed, place, body, today)
    _require_the_rest(old, new, change.name, body.kind)
    tag = _tag(place.file, content, new, (body.kind, change.name))
    return Edited(place.file, content, tag, old, new, warnings, lines)


# --- The body -------------------------------------------------------------------------------------


def _body(change: Change) -> _Body:
    """The document of a body, as it is to stand in a file."""
    text = _yaml_of(change.body) if change.is_json else _text(change.body)
    context = Context(BODY, budget=len(text) + 1)
    found = list(nodes(context, text.encode()))
    if context.findings:
        raise _unprocessable("the body is not YAML", tuple(context.findings))
    if len(found) != 1:
        raise _unprocessable(f"the body holds {len(found)} documents instead of one")
    kind = _header(found[0], change)
    span = next(iter(spans(text)))
    return _Body(span.of(text), kind, 0 if change.is_json else span.line)


def _text(body: bytes) -> str:
    try:
        return decoded(body)
    except UnicodeDecodeError:
        raise _unprocessable("the body is not UTF-8") from None


def _yaml_of(body: bytes) -> str:
    try:
        value = orjson.loads(body)
        return to_yaml(value)
    except orjson.JSONDecodeError as error:
        raise ChangeRefused(400, "not-json", f"the body is not JSON: {error}") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise _unprocessable(f"the body can't be written as YAML: {error}") from None


def _header(node: Node, change: Change) -> str:
    """The kind of the body's document, which has to be one that can be changed, of that name."""
    kind, name = _scalar(node, "kind"), _scalar(node, "metadata", "name")
    if kind not in KINDS:
        raise _at(node, f"the kind should be one of {', '.join(KINDS)}")
    if name != change.name:
        raise _at(node, f"metadata.name should be {change.name!r}, as in the address")
    if change.kind not in (None, kind):
        raise _at(node, f"the kind should be {change.kind!r}, as in the address")
    return kind


def _scalar(node: Node, *path: str) -> str | None:
    for key in path:
        found = _value(node, key)
        if found is None:
            return None
        node = found
    return str(node.value) if isinstance(node, ScalarNode) else None


def _value(node: Node, key: str) -> Node | None:
    if not isinstance(node, MappingNode):
        return None
    return next((value for name, value in node.value if name.value == key), None)


def _at(node: Node, message: str) -> ChangeRefused:
    where = Where(BODY, node.start_mark.line + 1, node.start_mark.column + 1)
    return _unprocessable(message, (Finding(Severity.ERROR, "wrong-document", where, message),))


def _unprocessable(detail: str, findings: tuple[Finding, ...] = ()) -> ChangeRefused:
    return ChangeRefused(422, "invalid-policy", detail, findings)


# --- Its place ------------------------------------------------------------------------------------


def _place(files: Mapping[str, bytes], change: Change, kind: str) -> _Place:
    """Where the document stands that is to be exchanged, or where a new one is to stand."""
    found = [place for place in _places(files, change.name) if place[0] == kind]
    if change.tags == ():
        return _new_place(files, change, found)
    if not found:
        others = [place[0] for place in _places(files, change.name)]
        if others:
            raise _unprocessable(f"{change.name!r} is of kind {others[0]}, which does not change")
        raise ChangeRefused(404, "not-found", f"there is no policy {change.name!r}")
    if len(found) > 1:
        raise ChangeRefused(409, "ambiguous", f"there are {len(found)} documents of that name")
    _, file, text, span = found[0]
    tag = tag_of(span.of(text).encode())
    if change.tags is not None and tag not in change.tags:
        raise ChangeRefused(412, "stale", f"the policy is another by now: its tag is {tag}")
    return _Place(file, text, span)


def _new_place(
    files: Mapping[str, bytes], change: Change, found: list[tuple[str, str, str, Span]]
) -> _Place:
    file = f"{change.name}.yaml"
    if found:
        raise ChangeRefused(412, "exists", f"there is a policy {change.name!r} already")
    if file in files:
        raise ChangeRefused(409, "file-exists", f"{file} holds something else already")
    return _Place(file, "", None)


def _places(files: Mapping[str, bytes], name: str) -> list[tuple[str, str, str, Span]]:
    """Kind, file, its text, and span of each document of a name; by text where it can't be read."""
    found = []
    for file, data in sorted(files.items()):
        try:
            text = decoded(data)
        except UnicodeDecodeError:
            continue
        if name not in text:
            continue
        for span in spans(text):
            kind = _kind_of(span.of(text), name)
            if kind is not None:
                found.append((kind, file, text, span))
    return found


def _kind_of(text: str, name: str) -> str | None:
    """The kind of a document if it has that name and can be changed."""
    if name not in text:
        return None
    context = Context(BODY, budget=len(text) + 1)
    for node in nodes(context, text.encode()):
        kind = _scalar(node, "kind")
        if kind in KINDS and _scalar(node, "metadata", "name") == name:
            return kind
    return None


def _fitted(text: str, body: str) -> str:
    """The body with the line ends of the file."""
    if "\r\n" not in text:
        return body
    return body.replace("\r\n", "\n").replace("\n", "\r\n")


# --- The result -----------------------------------------------------------------------------------


def _checked(
    files: Mapping[str, bytes], place: _Place, body: _Body, today: date
) -> tuple[Policy, tuple[Finding, ...], Lines]:
    """The policy with the change in it, its warnings, and the body's lines."""
    loaded = load_texts(sorted(files.items()))
    findings = loaded.findings
    if loaded.policy is not None:
        findings = (*findings, *check(loaded.policy, today))
    lines = _lines(place, body)
    errors = tuple(finding for finding in findings if finding.severity is Severity.ERROR)
    if loaded.policy is None or errors:
        detail = f"the policies would have {len(errors)} errors with this change"
        raise ChangeRefused(422, "invalid-policy", detail, findings, lines)
    return loaded.policy, findings, lines


def _lines(place: _Place, body: _Body) -> Lines:
    """The body's lines in its file; a body in JSON has none there."""
    first = place.span.line if place.span else 1
    count = body.text.count("\n") + 1 if body.line else 0
    return {(place.file, first + number): body.line + number for number in range(count)}


def _require_the_rest(old: Policy | None, new: Policy, name: str, kind: str) -> None:
    """Make sure that nothing but the document is another."""

    def rest(policy: Policy) -> list[Document]:
        return [item for item in _all(policy) if (item.KIND, item.name) != (kind, name)]

    if old is not None and rest(old) != rest(new):
        raise _unprocessable("the body would change other documents of its file")


def _all(policy: Policy) -> list[Document]:
    rollout = [policy.rollout] if policy.rollout else []
    return [
        policy.mesh,
        *policy.services,
        *policy.externals,
        *accesses(policy),
        *policy.bindings,
        *rollout,
    ]


def _tag(file: str, content: bytes, new: Policy, document: tuple[str, str]) -> str:
    """The tag of the document, by kind and name, as it stands in its file now."""
    text = decoded(content)
    for item in accesses(new):
        if (item.KIND, item.name) == document and item.where.file == file:
            span = span_at(spans(text), item.where.line)
            if span is not None:
                return tag_of(span.of(text).encode())
    raise _unprocessable("the body can't be found again in its file")
