"""The cycle collector, where it is in the way."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_paused() -> Iterator[None]:
    """Make many objects without looking for cycles among them time and again.

    A policy has none, and the collector's passes over it took half of the time to read it. Who
    found it running sets it running again, so threads that overlap here never leave it off.
    """
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()
