"""What is inside of what: a text in a string in JSON in base64 in a Secret in a log, and so on.

Nothing is parsed: a log has half an object, and a state has YAML in JSON. Each wrapping is known by
what it looks like, and taken off wherever it is.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import re
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

_DEPTH = 8
_ESCAPES = frozenset({"escapes", "percent"})
_MEGABYTES = 64 << 20

_ESCAPE = re.compile(
    r"\\(?:u(?P<unit>[0-9a-fA-F]{4})|x(?P<byte>[0-9a-fA-F]{2})"
    r"|(?P<line>\n[ \t]*(?:\\(?= ))?)|(?P<char>.))"
)
_CHARACTERS = {"n": "\n", "r": "\r", "t": "\t", "0": "\0"}
_PERCENT = re.compile(r"%(?P<byte>[0-9A-Fa-f]{2})")
_FORM_VALUE = re.compile(r"\w=\S*\+")
_FORM = re.compile(r"%(?P<byte>[0-9A-Fa-f]{2})|\+")
# Long enough for a key; lines of it are joined.
_BASE64 = re.compile(r"[A-Za-z0-9+/]{20,}(?:[ \t]*(?:\r?\n[ \t]*){1,3}[A-Za-z0-9+/]{2,})*")
_URLSAFE = re.compile(r"[A-Za-z0-9_-]{24,}")
_HEX = re.compile(r"(?:[0-9a-fA-F]{2}:?){16,}")
# What is worth reading as a text: noise has no such run.
_WORDS = re.compile(r"[\x20-\x7e\s]{16}")
_SPACE = re.compile(r"\s+")
_GROUP = 4


@dataclass(frozen=True, slots=True)
class View:
    """A text as it is under some wrappings; ``Latin-1`` where it is bytes.

    ``origins`` are pairs of an offset here and the offset in the outermost text that it stems from.
    """

    text: str
    wrappings: tuple[str, ...] = ()
    origins: tuple[tuple[int, int], ...] = field(default=((0, 0),))

    @property
    def is_text(self) -> bool:
        """Whether there is anything to read in it."""
        return _WORDS.search(self.text) is not None

    @property
    def data(self) -> bytes:
        """The same as bytes."""
        return self.text.encode("latin-1")

    def origin(self, offset: int) -> int:
        """Where in the outermost text an offset stems from."""
        here, there = self.origins[bisect_right(self.origins, (offset, 1 << 62)) - 1]
        # What is decoded has no character of its own outside: there its beginning stands for all.
        return there if self.is_decoded else there + offset - here

    @property
    def is_decoded(self) -> bool:
        """Whether this was written in other characters."""
        return not _ESCAPES.issuperset(self.wrappings)


def views(data: bytes) -> Iterator[View]:
    """What is in some bytes, with ever more of its wrappings taken off."""
    seen: set[str] = set()
    waiting = [View(_text(data))]
    while waiting:
        view = waiting.pop()
        if view.text in seen:
            continue
        seen.add(view.text)
        yield view
        if len(view.wrappings) < _DEPTH:
            waiting.extend(_inside(view))


def _text(data: bytes) -> str:
    return data.decode("latin-1")


def _inside(view: View) -> Iterator[View]:
    yield from _unzipped(view)
    if view.text.count("\0") * 3 > len(view.text):
        yield _child(view, 0, "two bytes a character", view.data.replace(b"\0", b""))
    if not view.is_text:
        return
    if "\\" in view.text:
        yield _replaced(view, _ESCAPE, _character, "escapes")
    if _PERCENT.search(view.text):
        yield _replaced(view, _PERCENT, _byte, "percent")
    # In forms a space is a plus, and a plus is escaped.
    if _FORM_VALUE.search(view.text):
        yield _replaced(view, _FORM, _byte, "percent")
    for match in _HEX.finditer(view.text):
        digits = match[0].replace(":", "")
        yield _child(view, match.start(), "hex", bytes.fromhex(digits[: len(digits) & ~1]))
    for match in _BASE64.finditer(view.text):
        yield from _decoded(view, match.start(), _SPACE.sub("", match[0]))
    for match in _URLSAFE.finditer(view.text):
        if "-" in match[0] or "_" in match[0]:
            yield from _decoded(view, match.start(), match[0])


def _decoded(view: View, start: int, token: str) -> Iterator[View]:
    """Base64 from each of four beginnings: what stands before it may look like base64 too."""
    for offset in range(_GROUP):
        part = token[offset:]
        # One character over says nothing.
        part = part[: len(part) - 1] if len(part) % _GROUP == 1 else part
        try:
            data = base64.urlsafe_b64decode(
                part.replace("+", "-").replace("/", "_") + "=" * (-len(part) % _GROUP)
            )
        except binascii.Error:
            continue
        yield _child(view, start, "base64", data)


def _unzipped(view: View) -> Iterator[View]:
    if view.text.startswith("\x1f\x8b"):
        try:
            data = zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(view.data, _MEGABYTES)
        except (zlib.error, gzip.BadGzipFile):
            return
        yield _child(view, 0, "gzip", data)


def _child(view: View, start: int, wrapping: str, data: bytes) -> View:
    return View(_text(data), (*view.wrappings, wrapping), ((0, view.origin(start)),))


def _replaced(
    view: View, pattern: re.Pattern[str], plain: Callable[[re.Match[str]], str], name: str
) -> View:
    """The text with escapes of one sort resolved once, and where each part of it was."""
    parts: list[str] = []
    origins = [(0, view.origin(0))]
    length = position = 0
    for match in pattern.finditer(view.text):
        part = view.text[position : match.start()] + plain(match)
        parts.append(part)
        length += len(part)
        position = match.end()
        origins.append((length, view.origin(position)))
    parts.append(view.text[position:])
    return View("".join(parts), (*view.wrappings, name), tuple(origins))


def _byte(match: re.Match[str]) -> str:
    return chr(int(match["byte"], 16)) if match["byte"] else " "


def _character(match: re.Match[str]) -> str:
    code = match["unit"] or match["byte"]
    if code:
        number = int(code, 16)
        # No key has a character beyond Latin-1.
        return chr(number) if number < 256 else "?"  # noqa: PLR2004 - Latin-1's size
    if match["line"]:
        return ""
    return _CHARACTERS.get(match["char"], match["char"])
