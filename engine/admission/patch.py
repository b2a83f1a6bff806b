"""The patch that makes one JSON document into another (RFC 6902)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Operation = dict[str, Any]


def patch_between(before: Any, after: Any) -> list[Operation]:  # noqa: ANN401 - any JSON value
    """Operations that make ``before`` into ``after``.

    Members of objects are added, removed and replaced; so are items of lists of one length. A list
    that grows or shrinks is replaced as a whole.
    """
    return list(_between(before, after, ""))


def _between(before: Any, after: Any, path: str) -> Iterator[Operation]:  # noqa: ANN401
    if isinstance(before, dict) and isinstance(after, dict):
        yield from _objects(before, after, path)
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, (old, new) in enumerate(zip(before, after, strict=True)):
            yield from _between(old, new, f"{path}/{index}")
    elif before != after or _is_other_type(before, after):
        yield {"op": "replace", "path": path, "value": after}


def _objects(before: dict[str, Any], after: dict[str, Any], path: str) -> Iterator[Operation]:
    for key, old in before.items():
        place = f"{path}/{_escaped(key)}"
        if key in after:
            yield from _between(old, after[key], place)
        else:
            yield {"op": "remove", "path": place}
    for key, new in after.items():
        if key not in before:
            yield {"op": "add", "path": f"{path}/{_escaped(key)}", "value": new}


def _is_other_type(before: Any, after: Any) -> bool:  # noqa: ANN401
    """In Python True equals 1 and 1 equals 1.0; in JSON only the latter two are one."""
    return isinstance(before, bool) is not isinstance(after, bool)


def _escaped(key: str) -> str:
    """A key as part of a JSON pointer (RFC 6901)."""
    return key.replace("~", "~0").replace("/", "~1")
