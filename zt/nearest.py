"""What messages show of values: the value itself, and the nearest valid name."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable

_SHOWN = 8
_CHARACTERS = 200

_REPR = reprlib.Repr()
_REPR.maxstring = _CHARACTERS


def shown(value: str) -> str:
    """The value in quotes; the middle of a long one is left out."""
    return _REPR.repr(value)


def nearest(value: str, choices: Iterable[str]) -> str | None:
    """The choice that is most like a value, if any is."""
    import difflib  # noqa: PLC0415 - needed for messages alone, and start-up time counts

    near = difflib.get_close_matches(value[:_CHARACTERS], sorted(choices), n=1, cutoff=0.6)
    return near[0] if near else None


def did_you_mean(value: str, choices: Iterable[str]) -> str:
    """`` (did you mean 'x'?)``, or the choices where none is near and they are few."""
    known = sorted(set(choices))
    near = nearest(value, known)
    if near:
        return f" (did you mean {near!r}?)"
    if not known:
        return ""
    if len(known) <= _SHOWN:
        verb = "is" if len(known) == 1 else "are"
        return f" (there {verb} {', '.join(map(repr, known))})"
    return f" (there are {len(known)}, such as {known[0]!r})"
