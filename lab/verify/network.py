"""Work in another network namespace, by a thread that nobody else has."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

_T = TypeVar("_T")

_CLONE_NEWNET = 0x40000000


def within(namespace: Path, work: Callable[[], _T]) -> _T:
    """What ``work`` returns; the sockets that it makes are of the namespace, whoever uses them.

    ``namespace`` is a file such as ``/proc/<pid>/ns/net``.

    Raises:
        OSError: if the namespace is not there.
    """
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(_enter_and, namespace, work).result()


def _enter_and(namespace: Path, work: Callable[[], _T]) -> _T:
    with namespace.open() as file:
        if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), _CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(namespace))
    return work()
