"""Preview, up, refresh and destroy: what they did, and how long it took."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pulumi import automation
from pulumi.automation import EngineEvent, OpType

from lab.stack.changes import Change, changes, messages
from lab.stack.ended import ended

OnEvent = Callable[[EngineEvent], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run did, or would do, and how long it took in seconds. ``counts`` is by operation."""

    changes: tuple[Change, ...]
    counts: Mapping[str, int]
    messages: tuple[str, ...]
    seconds: float

    @property
    def resources(self) -> int:
        """How many resources the program has, with components, the provider and the stack."""
        gone = {"delete", "delete-replaced", "discard-replaced"}
        return sum(count for operation, count in self.counts.items() if operation not in gone)

    def __str__(self) -> str:
        return "\n".join(map(str, self.changes)) or "no changes"


def preview(stack: automation.Stack) -> Outcome:
    """Say what ``up`` would do.

    Raises:
        automation.CommandError: if the program or the engine refuses.
    """
    return _timed(stack, lambda heard: stack.preview(on_event=heard, color="never"))


def up(stack: automation.Stack, on_event: OnEvent | None = None) -> Outcome:
    """Bring the stack up.

    Raises:
        automation.CommandError: if something can't be made; what was made is in the state.
    """
    return _timed(stack, lambda heard: stack.up(on_event=heard, color="never"), on_event)


def refresh(stack: automation.Stack) -> Outcome:
    """Take what is there into the state; the changes are what others did.

    Raises:
        automation.CommandError: if it can't be read.
    """
    return _timed(stack, lambda heard: stack.refresh(on_event=heard, color="never"))


def destroy(stack: automation.Stack) -> Outcome:
    """Delete all that the stack made.

    Raises:
        automation.CommandError: if something can't be deleted; the rest stays in the state.
    """
    return _timed(stack, lambda heard: stack.destroy(on_event=heard, color="never"))


def _timed(
    stack: automation.Stack,
    command: Callable[[OnEvent], object],
    on_event: OnEvent | None = None,
) -> Outcome:
    events: list[EngineEvent] = []
    # The Automation API asks for outputs and history afterwards, the command line doesn't.
    last = began = time.monotonic()

    def heard(event: EngineEvent) -> None:
        nonlocal last
        last = time.monotonic()
        events.append(event)
        if on_event is not None:
            on_event(event)

    try:
        with ended(stack):
            command(heard)
    finally:
        gc.enable()  # the program stopped the collector, as if its process ended with it
    summaries = [event.summary_event for event in events if event.summary_event is not None]
    counts = summaries[-1].resource_changes if summaries else {}
    return Outcome(changes(events), _counts(counts), messages(events), last - began)


def _counts(found: Mapping[OpType, int]) -> dict[str, int]:
    return {getattr(name, "value", name): count for name, count in found.items() if count}
