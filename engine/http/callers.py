"""Who calls, and what that lets them do. Never by a header: a header says what its sender likes.

With TLS a caller is the SPIFFE ID of the client certificate that was verified. Without TLS, which
exists on loopback only and only where it is configured, whoever reaches the port is the developer
whose machine it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from engine.http.problems import Problem
from engine.policy.rights import METRICS, READ, STEP_UP, WRITE
from engine.policy.table import Snapshot

# Where a protocol leaves the Caller of a connection, in the extensions of an ASGI scope.
EXTENSION = "zt.caller"


@dataclass(frozen=True, slots=True)
class Caller:
    """``spiffe`` is proven by a certificate; ``local`` is loopback without TLS.

    ``refused`` is why the policy does not let it connect, if so.
    """

    spiffe: str | None = None
    local: bool = False
    refused: Problem | None = None


NOBODY = Caller()
LOCAL = Caller(local=True)


class Action(StrEnum):
    """What a request does, by the right that it takes."""

    READ = READ
    WRITE = WRITE
    METRICS = METRICS
    # Takes a right only where it is about others than the caller.
    ASK = "ask"
    # The description of the API: for everybody whom the policy declares.
    DESCRIBE = "describe"


def caller_of(scope: Mapping[str, Any]) -> Caller:
    """The caller that a protocol has found; nobody, if it did not say."""
    found = scope.get("extensions", {}).get(EXTENSION)
    return found if isinstance(found, Caller) else NOBODY


def allowed(
    caller: Caller, snapshot: Snapshot, action: Action, about: tuple[str, ...] = ()
) -> Problem | None:
    """What speaks against a request; ``about`` are the ends of the connection asked about."""
    if caller.local:
        return None
    spiffe = caller.spiffe
    if spiffe is None or not snapshot.table.declares(spiffe):
        return UNKNOWN_CALLER
    if caller.refused is not None:
        return caller.refused
    if action is Action.DESCRIBE or (action is Action.ASK and spiffe in about):
        return None
    held = snapshot.rights.get(spiffe, _NONE)
    for right in _TAKES[action]:
        if right in held:
            return None
    return _refused(action, held)


def reason_of(problem: Problem) -> str:
    """A refusal for ``Metrics.unknown_caller`` and the trail: one of four words."""
    return problem.code.replace("-", "_")


def _refused(action: Action, held: frozenset[str]) -> Problem:
    if any(STEP_UP + right in held for right in _TAKES[action]):
        return _STEP_UP_REQUIRED[action]
    return _NOT_ALLOWED[action]


UNKNOWN_CALLER = Problem(
    403,
    "unknown-caller",
    "The caller is not known",
    "the API answers services that the policy declares, by their SVIDs",
)

NOT_PERMITTED = Problem(
    403,
    "not-permitted",
    "The policy does not let the caller connect",
    "no rule gives the caller this port of the evaluator: `zt explain` says what one would look "
    "like; or the connection could not be recorded",
)

_NONE: frozenset[str] = frozenset()
_TAKES: Mapping[Action, tuple[str, ...]] = {
    Action.ASK: (READ,),
    Action.READ: (READ,),
    Action.WRITE: (WRITE,),
    Action.METRICS: (METRICS, READ),
    Action.DESCRIBE: (),
}
_WHAT = {
    Action.ASK: "a service may ask about itself; about others only with right 'read' on the "
    "evaluator",
    Action.READ: "this takes right 'read' on the evaluator",
    Action.WRITE: "this takes right 'write' on the evaluator",
    Action.METRICS: "this is for the mesh's metrics service, and takes right 'metrics' or 'read' "
    "on the evaluator",
}
_NOT_ALLOWED = {
    action: Problem(403, "not-allowed", "The caller may not do this", what)
    for action, what in _WHAT.items()
}
_STEP_UP_REQUIRED = {
    action: Problem(
        403,
        "step-up-required",
        "The caller has to show more than a certificate",
        f"{what}, and the rule that gives it has conditions that no certificate meets",
        extra={"reason": "step_up_required"},
    )
    for action, what in _WHAT.items()
}
