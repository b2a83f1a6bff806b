"""Preview, up, refresh and destroy; and what an interrupted run left behind."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pulumi import automation
from pulumi.automation import EngineEvent, OpType

from lab.stack.changes import Change, changes, messages

OnEvent = Callable[[EngineEvent], None]
# Whether an object is there: by type token and ID.
IsThere = Callable[[str, str], bool]
_PATCH = "Patch"


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
    return _timed(lambda heard: stack.preview(on_event=heard, color="never"))


def up(stack: automation.Stack, on_event: OnEvent | None = None) -> Outcome:
    """Bring the stack up.

    Raises:
        automation.CommandError: if something can't be made; what was made is in the state.
    """
    return _timed(lambda heard: stack.up(on_event=heard, color="never"), on_event)


def refresh(stack: automation.Stack) -> Outcome:
    """Take what is there into the state; the changes are what others did.

    Raises:
        automation.CommandError: if it can't be read.
    """
    return _timed(lambda heard: stack.refresh(on_event=heard, color="never"))


def destroy(stack: automation.Stack) -> Outcome:
    """Delete all that the stack made.

    Raises:
        automation.CommandError: if something can't be deleted; the rest stays in the state.
    """
    return _timed(lambda heard: stack.destroy(on_event=heard, color="never"))


def resume(stack: automation.Stack, is_there: IsThere) -> tuple[str, ...]:
    """Take up what an interrupted run left: its lock, and creations of unknown end.

    An object that such a creation made is the stack's; one that was not made is made by the next
    ``up``. Returns the IDs of those that were there.

    Raises:
        automation.CommandError: if the engine can't.
    """
    stack.cancel()
    found = {
        urn: identity
        for urn, type_, identity in _pending(stack)
        if not type_.endswith(_PATCH) and is_there(type_, identity)
    }
    arguments = [word for pair in found.items() for word in pair]
    if arguments:
        _run(stack, ["--skip-pending-creates", *_each("--import-pending-creates", arguments)])
    _run(stack, ["--clear-pending-creates"])
    return tuple(sorted(found.values()))


def _pending(stack: automation.Stack) -> list[tuple[str, str, str]]:
    """URN, type and ID of each creation that was begun and never ended."""
    state: Mapping[str, Any] = stack.export_stack().deployment or {}
    begun = [
        operation["resource"]
        for operation in state.get("pending_operations") or ()
        if operation["type"] == "creating"
    ]
    return [(item["urn"], item["type"], _identity(item["inputs"])) for item in begun]


def _identity(inputs: Mapping[str, Any]) -> str:
    metadata = inputs["metadata"]
    namespace = metadata.get("namespace")
    return f"{namespace}/{metadata['name']}" if namespace else str(metadata["name"])


def _each(option: str, values: list[str]) -> list[str]:
    return [word for value in values for word in (option, value)]


def _run(stack: automation.Stack, options: list[str]) -> None:
    """Refresh with options that the Automation API has no names for."""
    stack._run_pulumi_cmd_sync(["refresh", "--yes", "--color=never", *options])  # noqa: SLF001


def _timed(command: Callable[[OnEvent], object], on_event: OnEvent | None = None) -> Outcome:
    events: list[EngineEvent] = []

    def heard(event: EngineEvent) -> None:
        events.append(event)
        if on_event is not None:
            on_event(event)

    began = time.monotonic()
    command(heard)
    seconds = time.monotonic() - began
    summaries = [event.summary_event for event in events if event.summary_event is not None]
    counts = summaries[-1].resource_changes if summaries else {}
    return Outcome(changes(events), _counts(counts), messages(events), seconds)


def _counts(found: Mapping[OpType, int]) -> dict[str, int]:
    return {getattr(name, "value", name): count for name, count in found.items() if count}
