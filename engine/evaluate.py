"""One connection, one answer: what the policy says, and what its phase makes of it.

Pure: the clock, the network and the audit trail are in ``engine.decider``.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from engine.locate import Locations
from engine.policy.table import NOBODY, Snapshot
from zt.decide import Reason, Verdict
from zt.effective import EXTERNAL
from zt.model import Phase

_ENFORCE = Phase.ENFORCE
_ALLOW, _DENY = Verdict.ALLOW, Verdict.DENY


class Objection(StrEnum):
    """Reasons for DENY that are no part of the policy's decision."""

    NO_POLICY = "no_policy"
    AUDIT_UNAVAILABLE = "audit_unavailable"
    # The source is a pod by its address alone.
    PLAINTEXT = "plaintext"
    # A sidecar spoke of a connection to somebody else.
    DESTINATION_MISMATCH = "destination_mismatch"
    # The sidecar's own lists refused what the policy grants: they are behind it, or ahead.
    NOT_ON_LIST = "not_on_list"
    # Handshakes that ended before an identity was proven.
    CERTIFICATE_EXPIRED = "certificate_expired"
    CERTIFICATE_UNTRUSTED = "certificate_untrusted"
    NO_CERTIFICATE = "no_certificate"
    NOT_TLS = "not_tls"
    HANDSHAKE_FAILED = "handshake_failed"


class Request(NamedTuple):
    """A connection to decide.

    ``source`` is a SPIFFE ID or ``external:<name>``, ``None`` where nobody is known; ``pod`` and
    ``node`` are the source's, ``replica`` is the pod of the destination. ``objection`` is what
    speaks against the connection whatever the policy grants.
    """

    source: str | None
    destination: str | None
    port: int
    pod: str | None = None
    node: str | None = None
    replica: str | None = None
    objection: Objection | None = None
    on_behalf_of: str | None = None


class Answer(NamedTuple):
    """``verdict`` is what holds now, ``would_be`` what will once the destination is enforced.

    ``rule`` is the one that grants the connection, also where an objection denies it all the same.
    """

    verdict: Verdict
    would_be: Verdict
    phase: Phase
    enforced: bool
    rule: str
    reason: Reason | Objection
    revision: str
    source_known: bool
    destination_known: bool


def evaluate(snapshot: Snapshot, locations: Locations, request: Request) -> Answer:
    """Answer a request."""
    destination = request.destination or ""
    would_be, rule, reason, caller, called = snapshot.table.rule(
        request.source or "", destination, request.port
    )
    # A call to the outside is enforced by the source's own sidecar.
    enforcer = caller if destination.startswith(EXTERNAL) else called
    phase = snapshot.table.phase_at(enforcer) or _ENFORCE
    enforced = phase is _ENFORCE or is_enforced(phase, locations, request)
    objection = request.objection if snapshot.loaded else Objection.NO_POLICY
    if objection is not None:
        would_be = _DENY
    return Answer(
        would_be if enforced else _ALLOW,
        would_be,
        phase,
        enforced,
        rule,
        objection or reason,
        snapshot.revision,
        caller != NOBODY,
        called != NOBODY,
    )


def is_enforced(phase: Phase, locations: Locations, request: Request) -> bool:
    """Whether a verdict holds: in canary, for the first replica by pod name alone.

    A replica that nobody can place is not the canary: a lost table must not enforce all of them.
    """
    if phase is Phase.CANARY:
        canary = locations.canaries.get(request.destination or "")
        return canary is not None and canary == request.replica
    return phase is Phase.ENFORCE


def without_audit(answer: Answer) -> Answer:
    """The answer where it could not be recorded: DENY if enforced, else as it was."""
    verdict = Verdict.DENY if answer.enforced else answer.verdict
    return answer._replace(verdict=verdict, reason=Objection.AUDIT_UNAVAILABLE)
