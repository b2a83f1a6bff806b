"""All images of the lab: built once, kept in the cache folder, found there in seconds."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from lab.images import ours, programs, steps
from lab.images.archive import Image
from lab.images.debian import debian, pinned
from lab.images.layers import Workshop
from lab.tools.build import cache_folder

_MEGABYTE = 1e6
# Above this many seconds something was made.
_MADE = 1.0


def images(report: Callable[[str], None]) -> Mapping[str, Image]:
    """All images by name; ``report`` is told a line of each.

    Raises:
        LabError: if a program is missing or fails.
        ToolError: if a program in Go can't be built.
    """
    shop = Workshop(cache_folder() / "images", report)
    with _alone(shop):
        return {made.name: made for made in _reported(_made(shop), report)}


def _made(shop: Workshop) -> Iterator[Image]:
    yield programs.pause(shop)
    yield programs.coredns(shop)
    root, apart = debian(shop, pinned(ours.commands()), programs.POSTGRES_PACKAGES)
    base = (steps.blob(shop, "debian", root),)
    yield ours.service(shop, root)
    yield ours.gateway(shop, root)
    yield ours.evaluator(shop, root)
    yield programs.envoy(shop, base)
    yield programs.postgres(shop, base, apart)
    yield programs.spire_server(shop)
    yield programs.spire_agent(shop)
    yield programs.controller_manager(shop)


def _reported(making: Iterator[Image], report: Callable[[str], None]) -> Iterator[Image]:
    started = time.monotonic()
    for made in making:
        spent = time.monotonic() - started
        how = f"built in {spent:.0f} s" if spent > _MADE else "cached"
        report(f"image {made.name}: {made.size / _MEGABYTE:.0f} MB, {how}")
        yield made
        started = time.monotonic()


@contextmanager
def _alone(shop: Workshop) -> Iterator[None]:
    """Nobody else builds in the folder meanwhile."""
    shop.folder.mkdir(parents=True, exist_ok=True)
    with (shop.folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
