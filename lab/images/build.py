"""All images of the lab: built once, kept in the cache folder, found there in seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from shutil import which

from lab.images import ours, programs, steps, stock
from lab.images.archive import Image
from lab.images.debian import debian, pinned
from lab.images.layers import Workshop
from lab.tools.build import cache_folder

_MEGABYTE = 1e6
# Above this many seconds something was made.
_MADE = 1.0
# What images are made and brought to nodes with, and the package of Debian that has it.
_COMMANDS = {
    "mmdebstrap": "mmdebstrap",
    "unshare": "util-linux",
    "mount": "mount",
    "tar": "tar",
    "containerd": "containerd",
    "ctr": "containerd",
}


def missing() -> tuple[str, ...]:
    """What this machine lacks for images, in words."""
    lacks = [f"`{name}` ({package})" for name, package in _COMMANDS.items() if not which(name)]
    return tuple(lacks if programs.has_envoy() else [*lacks, "Envoy (`make setup`)"])


def images(report: Callable[[str], None]) -> Mapping[str, Image]:
    """All images by name; ``report`` is told a line of each.

    Raises:
        LabError: if a program is missing or fails.
        ToolError: if a program in Go can't be built.
    """
    shop = Workshop(cache_folder() / "images", report)
    with shop.alone():
        found = {made.name: made for made in _reported(_made(shop), report)}
        stock.keep(shop, found)
        shop.tidy()
    return found


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
