"""Runs flows by a caller in each pod that calls, and gathers what they say.

A caller dies with its pod. What it had counted by then stays counted, and the flows go on by
another one as soon as the pod is there again.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from lab.cluster.model import LabError
from lab.faults.tally import Event, Flow, Seen, Side, Sums, event_of, sums_of
from lab.verify.callers import Caller

Json = dict[str, Any]

# A caller in a pod, ``<namespace>/<name>``; raises LabError where none can be had now.
Dial = Callable[[str], Caller]

_PATIENCE = 20.0
_PAUSE = 0.1


@dataclass(frozen=True, slots=True)
class Dialled:
    """A flow, and how ``lab.services.caller`` is asked for it."""

    flow: Flow
    asked: Json


@dataclass(slots=True)
class _Running:
    """A flow of a caller, as far as it has come."""

    flow: Flow
    events: list[Event] = field(default_factory=list)
    sums: Mapping[str, Json] = field(default_factory=dict)
    over: threading.Event = field(default_factory=threading.Event)

    def hear(self, line: Json) -> None:
        event = event_of(line)
        if event is not None:
            self.events.append(event)
            return
        if "new" in line:
            self.sums = line
        if "new" not in line or line.get("event") == "end":
            self.over.set()  # also if the caller died, or did not take the question

    def seen(self) -> Seen:
        new, kept = (sums_of(self.sums[side]) if self.sums else Sums() for side in Side)
        return Seen(self.flow, tuple(self.events), new, kept)


@dataclass(slots=True)
class _Pod:
    """The caller of one pod, and its flows by their IDs."""

    caller: Caller
    flows: dict[int, _Running] = field(default_factory=dict)

    @property
    def lives(self) -> bool:
        return not any(run.over.is_set() for run in self.flows.values())

    def begin(self, dialled: Iterable[Dialled]) -> None:
        for item in dialled:
            run = _Running(item.flow)
            self.flows[self.caller.begin(item.asked, run.hear)] = run

    def end(self) -> None:
        """Have flows say their sums, and end the caller; once more does no harm."""
        with suppress(LabError):
            for number, run in self.flows.items():
                if not run.over.is_set():
                    self.caller.stop(number)
        deadline = time.monotonic() + _PATIENCE
        for run in self.flows.values():
            run.over.wait(max(0.0, deadline - time.monotonic()))
        self.caller.close()


class Traffic:
    """Flows that run."""

    def __init__(self, dial: Dial, dialled: Iterable[Dialled]) -> None:
        self._dial = dial
        self._by_pod: dict[str, list[Dialled]] = defaultdict(list)
        for item in dialled:
            self._by_pod[item.flow.origin].append(item)
        self._pods: dict[str, _Pod] = {}
        self._gone: list[_Pod] = []

    def begin(self) -> None:
        """Start flows in each pod where they don't run, if it is there."""
        for name in self.missing():
            if name in self._pods:
                self._gone.append(self._pods.pop(name))
                self._gone[-1].end()
            with suppress(LabError, OSError):
                pod = _Pod(self._dial(name))
                self._pods[name] = pod
                pod.begin(self._by_pod[name])

    def missing(self) -> tuple[str, ...]:
        """Pods in which no flows run."""
        return tuple(
            name for name in self._by_pod if name not in self._pods or not self._pods[name].lives
        )

    def seen(self) -> tuple[Seen, ...]:
        """What flows have said so far; a flow whose caller was started again is there twice."""
        return _seen((*self._gone, *self._pods.values()))

    def current(self) -> tuple[Seen, ...]:
        """The same of those that run now."""
        return _seen(self._pods.values())

    def end(self) -> tuple[Seen, ...]:
        """End all flows; what they said."""
        for pod in self._pods.values():
            pod.end()
        return self.seen()


@contextmanager
def running(dial: Dial, dialled: Iterable[Dialled]) -> Iterator[Traffic]:
    """Traffic for as long as the block lasts."""
    traffic = Traffic(dial, dialled)
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
        if not traffic.missing() and is_quiet(traffic.current(), time.time() - quiet):
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


def _seen(pods: Iterable[_Pod]) -> tuple[Seen, ...]:
    return tuple(run.seen() for pod in pods for run in pod.flows.values())
