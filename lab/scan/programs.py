"""What a process starts, also what lives for milliseconds: its environment and its arguments."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lab.scan.carriers import without_audit

_PAUSE = 0.0005


@contextmanager
def started_by(process: int) -> Iterator[dict[str, bytes]]:
    """Programs that a process and its children start while the block lasts, as carriers.

    What ends within half a millisecond may be missed.
    """
    seen: dict[str, bytes] = {}
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            for pid in _below(process):
                _look(pid, seen)
            time.sleep(_PAUSE)

    watching = threading.Thread(target=watch, name=f"watching {process}")
    watching.start()
    try:
        yield seen
    finally:
        over.set()
        watching.join()


def _look(pid: int, seen: dict[str, bytes]) -> None:
    """A process is another program after exec(3), so each of its programs counts."""
    folder = Path(f"/proc/{pid}")
    with suppress(OSError):
        name = f"{(folder / 'comm').read_text().strip()} {pid}"
        if f"{name} cmdline" not in seen:
            seen[f"{name} environ"] = without_audit((folder / "environ").read_bytes())
            seen[f"{name} cmdline"] = (folder / "cmdline").read_bytes()


def _below(process: int) -> Iterator[int]:
    with suppress(OSError):
        for file in Path(f"/proc/{process}/task").glob("*/children"):
            for child in file.read_text(encoding="ascii").split():
                yield int(child)
                yield from _below(int(child))
