"""Waiting in tests: for what comes to hold, and for programs that run for ever."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_SHORT = 0.02


def eventually(holds: Callable[[], object], patience: float = 30.0, pause: float = _SHORT) -> float:
    """Wait until something holds; returns how long it took, in seconds.

    Raises:
        AssertionError: if it does not within so many seconds.
    """
    begun = time.monotonic()
    while not holds():
        assert time.monotonic() - begun < patience, f"it did not come to hold in {patience:.0f} s"
        time.sleep(pause)
    return time.monotonic() - begun


class EndedError(BaseException):
    """Ends a program that runs for ever; nothing in it takes it for an error of its own."""


@contextmanager
def running(
    program: Callable[[Callable[[float], None]], object], *, ends: float | None = None
) -> Iterator[list[float]]:
    """A program that takes a ``sleep``, in a thread; yields the pauses that it asked for.

    With ``ends`` it has to end within so many seconds. Others may wait for who ends after them.
    """
    pauses: list[float] = []
    ended = threading.Event()

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if ended.wait(_SHORT):
            raise EndedError

    def run() -> None:
        try:
            program(sleep)
        except EndedError:
            return

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield pauses
    finally:
        ended.set()
        thread.join(ends or 0.01)
        assert ends is None or not thread.is_alive()
