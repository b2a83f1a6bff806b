"""How findings are made, and what their sentences have in common."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from typing import TypeVar

from zt.position import Finding, Severity, Where

_SHOWN = 5

T = TypeVar("T", bound=Hashable)


def error(code: str, where: Where, message: str, rule: str | None = None) -> Finding:
    """A finding that stops the compiler."""
    return Finding(Severity.ERROR, code, where, message, rule)


def warning(code: str, where: Where, message: str, rule: str | None = None) -> Finding:
    """A finding that does not."""
    return Finding(Severity.WARNING, code, where, message, rule)


def listed(items: Iterable[object]) -> str:
    """``a, b and c``; of many the first few, and how many more there are."""
    texts = [str(item) for item in items]
    if len(texts) > _SHOWN + 1:
        return f"{', '.join(texts[:_SHOWN])} and {len(texts) - _SHOWN} more"
    return " and ".join(filter(None, [", ".join(texts[:-1]), *texts[-1:]]))


def repeated(items: Iterable[T]) -> Iterator[tuple[int, T]]:
    """Items that stood before, with their index."""
    seen: set[T] = set()
    for index, item in enumerate(items):
        if item in seen:
            yield index, item
        seen.add(item)
