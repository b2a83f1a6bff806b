"""Short names of parties, for people who know their mesh."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from zt.spiffe import SCHEME


def short_names(ids: Iterable[str]) -> dict[str, str]:
    """The shortest end of each ID that names it alone among these: ``chat``, ``lux-k8s/chat``.

    What is external keeps its prefix.
    """
    known = sorted(set(ids))
    forms = {name: _forms(name) for name in known}
    used = Counter(form for found in forms.values() for form in found)
    return {
        name: next((form for form in found if used[form] == 1), name)
        for name, found in forms.items()
    }


def _forms(name: str) -> tuple[str, ...]:
    """Service account; cluster and account; the whole path."""
    if not name.startswith(SCHEME):
        return (name,)
    _, *path = name.removeprefix(SCHEME).split("/")
    return path[-1], f"{path[0]}/{path[-1]}", "/".join(path)
