"""Child processes of the supervisor: forked, so that they share its memory, and ended with it."""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

# All that the supervisor waits for; its children get them as usual.
SIGNALS = frozenset({signal.SIGCHLD, signal.SIGTERM, signal.SIGINT})
_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15
_LONGEST_PAUSE = 10.0
_STEADY = 30.0

_log = logging.getLogger(__name__)


@dataclass
class Child:
    """A program that is to run: ``body`` returns its exit code.

    ``restart`` says whether it is started again when it ends; soon at first, then at longer
    intervals if it never stays up.
    """

    name: str
    body: Callable[[], int]
    restart: bool = True
    pid: int = 0
    started: float = 0.0
    pause: float = 0.0


@dataclass
class Children:
    """The children of this process, which must have no threads."""

    running: dict[int, Child] = field(default_factory=dict)
    waiting: list[Child] = field(default_factory=list)

    def start(self, child: Child) -> None:
        """Fork a child."""
        child.started = time.monotonic()
        child.pid = _fork(child)
        self.running[child.pid] = child

    def reap(self) -> Iterator[Child]:
        """Take note of those that ended, and yield those that are not to be started again."""
        while self.running:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            child = self.running.pop(pid, None)
            if child is None:
                continue
            code = os.waitstatus_to_exitcode(status)
            if child.restart:
                self._postpone(child, code)
                continue
            if code not in (0, -signal.SIGTERM):
                _log.error("%s ended with %d", child.name, code)
            yield child

    def resume(self) -> None:
        """Start those again whose pause is over."""
        now = time.monotonic()
        for child in [child for child in self.waiting if now >= child.started]:
            self.waiting.remove(child)
            self.start(child)

    def stop(self, names: Callable[[str], bool], patience: float) -> None:
        """End children for good: SIGTERM, and after ``patience`` seconds SIGKILL."""
        self.waiting = [child for child in self.waiting if not names(child.name)]
        chosen = [child for child in self.running.values() if names(child.name)]
        for child in chosen:
            child.restart = False
            os.kill(child.pid, signal.SIGTERM)
        self._await(chosen, patience)
        for child in chosen:
            if child.pid in self.running:
                _log.error("%s did not end in %.0f s and is killed", child.name, patience)
                os.kill(child.pid, signal.SIGKILL)
        self._await(chosen, patience)

    def _await(self, chosen: list[Child], patience: float) -> None:
        deadline = time.monotonic() + patience
        while any(child.pid in self.running for child in chosen) and time.monotonic() < deadline:
            signal.sigtimedwait({signal.SIGCHLD}, 0.1)
            for _ in self.reap():
                pass

    def _postpone(self, child: Child, code: int) -> None:
        lived = time.monotonic() - child.started
        child.pause = 0.0 if lived > _STEADY else min(2 * child.pause + 0.1, _LONGEST_PAUSE)
        _log.error("%s ended with %d; started again in %.1f s", child.name, code, child.pause)
        child.started = time.monotonic() + child.pause
        self.waiting.append(child)


def _fork(child: Child) -> int:
    parent = os.getpid()
    gc.freeze()  # so that the child's collector does not copy the pages that it shares
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        _end_with(parent)
        _be_called(child.name)
        _as_usual()
        code = child.body()
    except BaseException:  # noqa: BLE001 - it must not go on as its parent
        _log.exception("%s failed", child.name)
    finally:
        logging.shutdown()
        os._exit(code)


def _end_with(parent: int) -> None:
    """Die when the parent does, however it dies."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _be_called(name: str) -> None:
    """What ps and top show of this process."""
    ctypes.CDLL(None).prctl(_PR_SET_NAME, f"zt-{name}".encode())


def _as_usual() -> None:
    """Signals as a program expects them."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
