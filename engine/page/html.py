"""Elements of HTML and SVG: whatever is not made here is text, and escaped."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

Attribute = str | float | bool | None

_VOID = {"input", "link", "meta"}


class Html(str):
    """Markup, as opposed to text."""

    __slots__ = ()


def element(name: str, /, *content: str | None, **attributes: Attribute) -> Html:
    """An element; ``class_`` and ``aria_label`` are written ``class`` and ``aria-label``.

    ``None`` and ``False`` leave out content and attributes; ``True`` is an attribute alone.
    """
    opening = name + "".join(_attribute(key, value) for key, value in attributes.items())
    if name in _VOID:
        return Html(f"<{opening}>")
    return Html(f"<{opening}>{together(content)}</{name}>")


def together(content: Iterable[str | None]) -> Html:
    """Pieces, one after the other."""
    return Html("".join(_safe(piece) for piece in content if piece is not None))


def number(value: float) -> str:
    """A coordinate."""
    return f"{value:.1f}".removesuffix(".0")


def _safe(piece: str) -> str:
    return piece if isinstance(piece, Html) else escape(piece)


def _attribute(key: str, value: Attribute) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    if value is True:
        return f" {name}"
    return f' {name}="{escape(value) if isinstance(value, str) else number(value)}"'
