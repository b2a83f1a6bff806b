"""What a program does for ever, at intervals: longer ones while it does not go well."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import NoReturn


def for_ever(
    step: Callable[[], bool],
    shortest: float,
    longest: float,
    sleep: Callable[[float], None] = time.sleep,
) -> NoReturn:
    """Do a step, and pause, and do it again.

    Args:
        step: Says whether it went well. One that took longer than the longest pause did.
        shortest: Seconds of the pause after that; each other pause is twice as long as the last.
        longest: Seconds that no pause is longer than.
        sleep: How to pause.
    """
    pause = shortest
    while True:
        begun = time.monotonic()
        went_well = step() or time.monotonic() - begun > longest
        pause = shortest if went_well else min(2 * pause, longest)
        # So that not all replicas do it in the same moment.
        sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - no secret
