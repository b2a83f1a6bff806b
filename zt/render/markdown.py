"""A difference as Markdown for a comment on a change: summary first, within a hard budget."""

from __future__ import annotations

from collections.abc import Iterable

from zt.diff import Diff
from zt.render.sections import Section, sections, summary

# GitHub takes 65,536 characters in a comment; what else stands in it needs some.
BUDGET = 60_000
_CELL = 300
_RESERVED = 500  # for what is said about rows left out
_ENTITIES = {ord(special): f"&#{ord(special)};" for special in "&\\`*_[]<|@#"}


def markdown(diff: Diff, budget: int = BUDGET) -> str:
    """Write a difference in at most ``budget`` characters; what does not fit is counted."""
    found = list(sections(diff))
    text = f"### Who may reach whom\n\n{summary(diff)}\n"
    omitted: list[str] = []
    for section in found:
        table, left = _table(section, budget - len(text) - _RESERVED)
        text += table
        if left:
            omitted.append(f"{left} of {section.title.split(':')[0].lower()}")
    if omitted:
        text += f"\nLeft out for length: {', '.join(omitted)}. `zt diff` shows all.\n"
    return text


def _table(section: Section, room: int) -> tuple[str, int]:
    """A section that fits into the room, and how many of its rows did not."""
    head = (
        f"\n#### {section.title}\n\n{_row(section.headers)}{_row('---' for _ in section.headers)}"
    )
    text = head
    for number, row in enumerate(section.rows):
        line = _row(map(_cell, row))
        if len(text) + len(line) > room:
            return (text if number else ""), len(section.rows) - number
        text += line
    return text, 0


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |\n"


def _cell(text: str) -> str:
    """Text that neither ends its cell nor becomes markup."""
    short = text if len(text) <= _CELL else text[: _CELL - 1] + "…"
    return " ".join(short.translate(_ENTITIES).split())
