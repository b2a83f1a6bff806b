"""Dialers in the pods of the lab: started once in a container, then asked from outside.

A container needs Python and nothing else: the program comes with its command.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from lab.cluster.model import LabError
from lab.nodes.pods import Pod, entered, process_of
from lab.services import program
from lab.services.manifests import CONTAINER
from zt.inject.containers import CONTAINERS

Json = dict[str, Any]
Hear = Callable[[Json], None]

_PATIENCE = 5.0
# What a busy machine takes besides the time that a call itself may take.
_ALLOWANCE = 30.0
_END = {"event": "end", "ok": False, "error": "ended"}


class Caller:
    """A dialer that runs; any thread may ask it."""

    def __init__(self, command: Sequence[str], name: str) -> None:
        """Start it; ``name`` is for messages.

        Raises:
            LabError: if it can't be started.
        """
        self.name = name
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._hearers: dict[int, Hear] = {}
        self._ended = False
        self._words = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the dialer
        self._process = self._start(command)
        self._listener = threading.Thread(target=self._listen, name=f"caller {name}", daemon=True)
        self._listener.start()

    def _start(self, command: Sequence[str]) -> subprocess.Popen[str]:
        try:
            return subprocess.Popen(  # noqa: S603 - a program of our own
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._words,
                text=True,
                start_new_session=True,
            )
        except OSError as error:
            self._words.close()
            raise LabError(f"no dialer in {self.name}: {error}") from None

    def ask(self, question: Json, patience: float | None = None) -> Json:
        """Make one call and wait for its answer; see ``lab.services.caller`` for both.

        Raises:
            LabError: if the dialer has ended, or says nothing for so many seconds.
        """
        answers: SimpleQueue[Json] = SimpleQueue()
        self.begin(question, answers.put)
        wait = patience or float(question.get("timeout", _PATIENCE)) + _ALLOWANCE
        try:
            answer = answers.get(timeout=wait)
        except Empty:
            raise LabError(f"the dialer in {self.name} says nothing to {question}") from None
        if answer is _END:
            raise LabError(f"the dialer in {self.name} has ended{self._last_words()}")
        return answer

    def begin(self, question: Json, hear: Hear) -> int:
        """Make one call, whose answers are heard as they come, in another thread; returns its ID.

        If the dialer ends, that is heard as event ``end`` with the error ``ended``.

        Raises:
            LabError: if it has ended already.
        """
        number = next(self._numbers)
        with self._lock:
            if self._ended:
                raise LabError(f"the dialer in {self.name} has ended{self._last_words()}")
            self._hearers[number] = hear
        try:
            self._say({**question, "id": number})
        except LabError:
            with self._lock:
                self._hearers.pop(number, None)
            raise
        return number

    def stop(self, number: int) -> None:
        """End a call of mode ``steady``; its sums are still heard."""
        self._say({"stop": number})

    def close(self) -> None:
        """End the dialer, and what it has under way."""
        with suppress(ProcessLookupError):
            # Entering the processes of a container takes one process more.
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._listener.join()
        for file in (self._process.stdin, self._process.stdout, self._words):
            with suppress(OSError):
                file.close()  # type: ignore[union-attr]

    def _say(self, line: Json) -> None:
        assert self._process.stdin  # noqa: S101 - it was started so
        try:
            with self._lock:
                self._process.stdin.write(json.dumps(line) + "\n")
                self._process.stdin.flush()
        except (OSError, ValueError):
            raise LabError(f"the dialer in {self.name} has ended{self._last_words()}") from None

    def _listen(self) -> None:
        assert self._process.stdout  # noqa: S101 - it was started so
        for line in self._process.stdout:
            self._pass_on(json.loads(line))
        with self._lock:
            self._ended = True
            left, self._hearers = self._hearers, {}
        for hear in left.values():
            hear(_END)

    def _pass_on(self, answer: Json) -> None:
        number = int(answer.get("id") or 0)
        with self._lock:
            hear = self._hearers.get(number)
            if answer.get("event", "end") == "end":
                self._hearers.pop(number, None)
        if hear:
            hear(answer)

    def _last_words(self) -> str:
        """What it wrote as it ended."""
        try:
            self._words.seek(0)
            words = self._words.read().strip().splitlines()
        except ValueError:  # closed
            return ""
        return f": {words[-1]}" if words else ""


class Callers:
    """A dialer for each pod that is asked for; they end together."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._callers: dict[str, Caller] = {}

    def of(self, pod: Pod) -> Caller:
        """The dialer in the container of a pod that is not the mesh's.

        Raises:
            LabError: if there is no such container, or it does not run.
        """
        with self._lock:
            if pod.uid not in self._callers:
                self._callers[pod.uid] = Caller(_command(pod), f"{pod.namespace}/{pod.name}")
            return self._callers[pod.uid]

    def forget(self, pod: Pod) -> None:
        """End a pod's dialer: the next that is asked for is another."""
        with self._lock:
            found = self._callers.pop(pod.uid, None)
        if found:
            found.close()

    def close(self) -> None:
        """End them all."""
        with self._lock:
            found, self._callers = self._callers, {}
        for caller in found.values():
            caller.close()


@contextmanager
def callers() -> Iterator[Callers]:
    """Dialers that end with the block."""
    found = Callers()
    try:
        yield found
    finally:
        found.close()


def container_of(pod: Pod) -> str:
    """The ID of the container that is a service's own.

    Raises:
        LabError: if none runs.
    """
    own = [name for name in pod.containers if name not in CONTAINERS]
    if not own:
        raise LabError(f"no container of {pod.namespace}/{pod.name} runs")
    # Init containers, which have ended, come before the others.
    return pod.containers[CONTAINER if CONTAINER in own else own[-1]]


def _command(pod: Pod) -> tuple[str, ...]:
    """As the user that the container's own program has."""
    try:
        process = process_of(container_of(pod))
        return entered(process, program.carried(), Path(f"/proc/{process}").stat().st_uid)
    except OSError as error:
        raise LabError(f"{pod.namespace}/{pod.name} ends: {error}") from None
