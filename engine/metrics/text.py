"""Prometheus's text format, version 0.0.4."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from engine.metrics.families import FAMILIES

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# What follows the family's name (``_sum``, ``_bucket``), the labels' values, the value.
Sample = tuple[str, Sequence[str], float]


def text(families: Iterable[tuple[str, Iterable[Sample]]]) -> str:
    """The text of families, each with its samples."""
    return "".join(f"{line}\n" for name, samples in families for line in _lines(name, samples))


def _lines(name: str, samples: Iterable[Sample]) -> Iterator[str]:
    family = FAMILIES[name]
    yield f"# HELP {name} {family.text}"
    yield f"# TYPE {name} {family.kind}"
    for suffix, values, value in samples:
        yield f"{name}{suffix}{_labels(family.labels, values)} {_number(value)}"


def _labels(names: Sequence[str], values: Sequence[str]) -> str:
    if not values:
        return ""
    pairs = zip(names, values, strict=True)
    return "{" + ",".join([f'{name}="{_escaped(value)}"' for name, value in pairs]) + "}"


def _number(value: float) -> str:
    if isinstance(value, int):
        return str(int(value))
    if math.isnan(value):
        return "NaN"
    return repr(float(value)) if value != int(value) else str(int(value))


def _escaped(value: str) -> str:
    if value.isprintable() and '"' not in value and "\\" not in value:
        return value
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
