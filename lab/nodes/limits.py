"""Limits of the kernel that a lab's pods would meet together, though each has little."""

from __future__ import annotations

from pathlib import Path

from lab.cluster.model import LabError

# Each Envoy has five of them, and the kernel counts all sidecars as those of one user.
_INSTANCES = Path("/proc/sys/fs/inotify/max_user_instances")
_WANTED = 8192


def raise_limits() -> None:
    """Raise what is too low, for as long as the machine runs: other labs may count on it.

    Raises:
        LabError: if that is refused.
    """
    try:
        if int(_INSTANCES.read_text(encoding="ascii")) < _WANTED:
            _INSTANCES.write_text(f"{_WANTED}\n", encoding="ascii")
    except OSError as error:
        raise LabError(f"fs.inotify.max_user_instances can't be raised: {error}") from None
