"""Waiting for what a lab's processes bring about."""

from __future__ import annotations

import time
from collections.abc import Callable

from lab.cluster.model import LabError
from lab.mesh.processes import Children

PATIENCE = 90.0
_PAUSE = 0.1

# What is said, of which kind: a ``step`` that begins, or what is being ``waiting`` for.
Speak = Callable[[str, object], None]


def wait(say: Speak, children: Children, what: str, is_so: Callable[[], bool]) -> None:
    """Wait for something, as long as nobody dies: none of the children, nor who listens.

    Raises:
        LabError: if somebody does, or it takes too long.
        BrokenPipeError: by ``say``, if nobody listens any more.
    """
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        for name in children.dead():
            raise LabError(children.obituary(name))
        if time.monotonic() > deadline:
            raise LabError(f"{what} did not answer within {PATIENCE:.0f} s")
        say("waiting", what)
        time.sleep(_PAUSE)
