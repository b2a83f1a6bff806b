"""Where the documents of a YAML file stand in its text, so that one can be taken or replaced.

Text alone is looked at: a line that begins with ``---`` or ``...`` ends a document whatever it
stands in. A document's span begins with its first key and ends with its last value: comments above
it and those at the margin below it are not of it.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass

_BREAKS = "\n\r\x85\u2028\u2029"
_BREAK = re.compile(rf"\r\n|[{_BREAKS}]")
_LINE = re.compile(rf"[^{_BREAKS}]*(?:\r\n|[{_BREAKS}]|\Z)")
_MARKER = re.compile(rf"(?:\A|(?<=[{_BREAKS}]))(?:---|\.\.\.)(?=[ \t{_BREAKS}]|\Z)")
_BLANKS = " \t" + _BREAKS


@dataclass(frozen=True, slots=True)
class Span:
    """Characters ``start`` to ``end`` of a text; ``line`` is that of ``start``, from 1."""

    start: int
    end: int
    line: int

    def of(self, text: str) -> str:
        """What stands there."""
        return text[self.start : self.end]

    def replaced(self, text: str, by: str) -> str:
        """The text with something else there."""
        head = text[: self.start]
        at_margin = not head or head[-1] in _BREAKS
        return head + ("" if at_margin else "\n") + by + text[self.end :]


def decoded(data: bytes) -> str:
    """The text of a policy file, as ``zt.load`` reads it.

    Raises:
        UnicodeDecodeError: if it is not UTF-8.
    """
    return data.decode("utf-8-sig")


def spans(text: str) -> tuple[Span, ...]:
    """The spans of all documents that hold anything."""
    found: list[Span] = []
    begin, line, counted = 0, 1, 0
    for marker in (*_MARKER.finditer(text), None):
        bounds = _narrowed(text, begin, marker.start() if marker else len(text))
        if bounds:
            line += _breaks(text, counted, bounds[0])
            counted = bounds[0]
            found.append(Span(*bounds, line))
        begin = marker.end() if marker else begin
    return tuple(found)


def span_at(found: tuple[Span, ...], line: int) -> Span | None:
    """The span of the document to which a line belongs, counted from 1."""
    index = bisect_right(found, line, key=lambda span: span.line)
    return found[index - 1] if index else None


def _narrowed(text: str, begin: int, end: int) -> tuple[int, int] | None:
    """Start and end of what is left without comments and blank lines around it."""
    lines = [(match.start(), match.group()) for match in _LINE.finditer(text, begin, end)]
    while lines and _is_margin(lines[-1][1]):
        del lines[-1]
    first = next((index for index, (_, line) in enumerate(lines) if not _says_nothing(line)), None)
    if first is None:
        return None
    (start, line), (last, ending) = lines[first], lines[-1]
    if start == begin and begin and text[begin - 1] not in _BREAKS:
        # On the line of the marker itself.
        start += len(line) - len(line.lstrip(" \t"))
    return start, last + len(ending.rstrip(_BLANKS))


def _breaks(text: str, begin: int, end: int) -> int:
    return sum(1 for _ in _BREAK.finditer(text, begin, end))


def _says_nothing(line: str) -> bool:
    bare = line.strip(_BLANKS)
    return not bare or bare[0] == "#" or line[0] == "%"


def _is_margin(line: str) -> bool:
    return line[:1] == "#" or not line.strip(_BLANKS)
