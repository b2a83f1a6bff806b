"""Injection: what the pods of a cluster need, as the webhook and the stack read it."""

from __future__ import annotations

from collections.abc import Iterator

from zt.bundle import CompiledFile
from zt.effective import Effective
from zt.inject.needs import PATH, injection_of, to_text


def compile_injection(effective: Effective, cluster: str) -> Iterator[CompiledFile]:
    """``injection.json``."""
    yield CompiledFile(PATH, to_text(injection_of(effective, cluster)))
