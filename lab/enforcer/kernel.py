"""Puts the table into the kernel, for the network namespace that this process is in."""

from __future__ import annotations

import subprocess

from lab.cluster.model import LabError
from lab.enforcer.table import NAME

_PATIENCE = 20.0


def replace(text: str) -> None:
    """Have the table be as the text says, in one transaction.

    Raises:
        LabError: if the kernel refuses; the table is then as it was before.
    """
    _nft("-f", "-", text=text)


def remove() -> None:
    """Enforce nothing any longer.

    Raises:
        LabError: if the kernel refuses.
    """
    replace(f"table inet {NAME}\ndelete table inet {NAME}\n")


def exists() -> bool:
    """Whether there is a table of ours, of whoever made it.

    Raises:
        LabError: if the kernel can't be asked.
    """
    return f"table inet {NAME}" in _nft("list", "tables").splitlines()


def _nft(*arguments: str, text: str = "") -> str:
    try:
        done = subprocess.run(  # noqa: S603 - nft(8)
            ["nft", *arguments],  # noqa: S607 - wherever it is
            input=text,
            capture_output=True,
            text=True,
            check=False,
            timeout=_PATIENCE,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LabError(f"nft failed: {error}") from None
    if done.returncode != 0:
        raise LabError(f"nft failed: {done.stderr.strip()}")
    return done.stdout
