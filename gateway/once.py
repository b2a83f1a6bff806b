"""What goes on for ever says a thing once, and again after it was otherwise."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Once:
    """Knows what was noted last; at first nothing was, which is neither a problem nor none."""

    _noted: str | None = ""

    def note(self, problem: str | None) -> bool:
        """Note a problem, or that there is none; whether that is news."""
        is_news, self._noted = problem != self._noted, problem
        return is_news
