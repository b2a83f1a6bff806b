"""Runs flows by a caller in each pod that calls, and gathers what they say.

A caller dies with its pod. What it had counted by then stays counted, and the flows go on by
another one as soon as the pod is there again.
"""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from lab.faults.flows import Dialled, Json
from lab.faults.tally import Event, Flow, Seen, Side, Sums, event_of, sums_of

# The command that starts a caller in the application's container of a pod; ``None``: not running.
Enter = Callable[[str], "Sequence[str] | None"]

_PATIENCE = 20.0
_PAUSE = 0.1


@dataclass(slots=True)
class _Running:
    """A flow of a caller, as far as it has come."""

    flow: Flow
    events: list[Event] = field(default_factory=list)
    sums: Mapping[str, Json] = field(default_factory=dict)

    def hear(self, line: Json) -> None:
        event = event_of(line)
        if event is not None:
            self.events.append(event)
        elif "new" in line:
            self.sums = line

    def seen(self) -> Seen:
        new, kept = (sums_of(self.sums[side]) if self.sums else Sums() for side in Side)
        return Seen(self.flow, tuple(self.events), new, kept)


@dataclass(slots=True)
class _Caller:
    """The caller in one pod, with its flows by their IDs."""

    process: subprocess.Popen[str]
    flows: dict[int, _Running]
    reader: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        for line in self.process.stdout or ():
            with suppress(ValueError):
                heard = json.loads(line)
                if heard.get("id") in self.flows:
                    self.flows[heard["id"]].hear(heard)

    @property
    def lives(self) -> bool:
        return self.process.poll() is None

    def ask(self, *asked: Json) -> None:
        with suppress(BrokenPipeError):
            assert self.process.stdin is not None  # noqa: S101 - it is a pipe
            self.process.stdin.writelines(json.dumps(item) + "\n" for item in asked)
            self.process.stdin.flush()

    def stop(self) -> None:
        """Have it say its sums, and end it; once more does no harm."""
        assert self.process.stdin is not None  # noqa: S101 - it is a pipe
        assert self.process.stdout is not None  # noqa: S101
        if self.process.stdin.closed:
            return
        self.ask(*({"stop": number} for number in self.flows))
        with suppress(OSError):
            self.process.stdin.close()
        try:
            self.process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.reader.join(_PATIENCE)
        self.process.stdout.close()


class Traffic:
    """Flows that run."""

    def __init__(self, enter: Enter, dialled: Iterable[Dialled]) -> None:
        self._enter = enter
        self._by_pod: dict[str, list[Dialled]] = defaultdict(list)
        for item in dialled:
            self._by_pod[item.flow.origin].append(item)
        self._callers: dict[str, _Caller] = {}
        self._gone: list[_Caller] = []

    def begin(self) -> None:
        """Start a caller in each pod where none runs."""
        for pod, dialled in self._by_pod.items():
            caller = self._callers.get(pod)
            if caller is not None and caller.lives:
                continue
            command = self._enter(pod)
            if command is None:
                continue
            if caller is not None:
                caller.stop()
                self._gone.append(caller)
            self._callers[pod] = _started(command, dialled)

    def seen(self) -> tuple[Seen, ...]:
        """What flows have said so far; a flow whose caller was started again is there twice."""
        callers = (*self._gone, *self._callers.values())
        return tuple(run.seen() for caller in callers for run in caller.flows.values())

    def current(self) -> tuple[Seen, ...]:
        """The same of the callers that run now."""
        return tuple(
            run.seen() for caller in self._callers.values() for run in caller.flows.values()
        )

    def problems(self) -> tuple[str, ...]:
        """Pods in which no caller runs."""
        return tuple(
            pod for pod in self._by_pod if pod not in self._callers or not self._callers[pod].lives
        )

    def end(self) -> tuple[Seen, ...]:
        """End all flows; what they said."""
        for caller in self._callers.values():
            caller.stop()
        return self.seen()


@contextmanager
def running(enter: Enter, dialled: Iterable[Dialled]) -> Iterator[Traffic]:
    """Traffic for as long as the block lasts."""
    traffic = Traffic(enter, dialled)
    try:
        traffic.begin()
        yield traffic
    finally:
        traffic.end()


def until_steady(traffic: Traffic, quiet: float, patience: float) -> bool:
    """Wait until nothing declared has failed for so many seconds; ``False`` if it never comes."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        traffic.begin()
        if not traffic.problems() and is_quiet(traffic.current(), time.time() - quiet):
            return True
        time.sleep(_PAUSE)
    return False


def is_quiet(seen: Iterable[Seen], since: float) -> bool:
    """Whether every declared flow is well on both sides, and was so long enough."""
    for item in seen:
        if not item.flow.declared:
            continue
        last = {event.side: event for event in item.events}
        if len(last) < len(Side):
            return False
        if any(event.error is not None or event.at > since for event in last.values()):
            return False
    return True


def _started(command: Sequence[str], dialled: Sequence[Dialled]) -> _Caller:
    process = subprocess.Popen(  # noqa: S603 - a program of our own
        list(command),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    flows = {number: _Running(item.flow) for number, item in enumerate(dialled)}
    caller = _Caller(process, flows)
    caller.ask(*({**item.asked, "id": number} for number, item in enumerate(dialled)))
    return caller
