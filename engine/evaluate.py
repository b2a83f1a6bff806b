"""One connection, one answer: what the policy says, and what its phase makes of it.

Pure: the clock, the network and the audit trail are in ``engine.decider``.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from engine.locate import Locations
from engine.policy.table import Ruling, Snapshot
from zt.decide import Reason, Verdict
from zt.effective import EXTERNAL
from zt.model import Phase

_ENFORCE = Phase.ENFORCE
_ALLOW, _DENY = Verdict.ALLOW, Verdict.DENY
_new = tuple.__new__


class Objection(StrEnum):
    """Reasons for DENY that are no part of the policy's decision."""

    NO_POLICY = "no_policy"
    AUDIT_UNAVAILABLE = "audit_unavailable"
    # The source is a pod by its address alone.
    PLAINTEXT = "plaintext"
    # The address is that of a pod with another identity than the certificate's.
    SOURCE_MISMATCH = "source_mismatch"
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
    ``source`` and ``destination`` are the parties that the policy declares, ``None`` for others.
    """

    verdict: Verdict
    would_be: Verdict
    phase: Phase
    enforced: bool
    rule: str
    reason: Reason | Objection
    revision: str
    source: str | None
    destination: str | None


def evaluate(snapshot: Snapshot, locations: Locations, request: Request) -> Answer:
    """Answer a request."""
    ruling = snapshot.table.rule(request.source or "", request.destination or "", request.port)
    return answer_of(ruling, snapshot, locations, request)


def answer_of(ruling: Ruling, snapshot: Snapshot, locations: Locations, request: Request) -> Answer:
    """The answer to a request that the snapshot's table has ruled on."""
    source, destination, _, _, _, _, objection, _ = request
    table = snapshot.table
    would_be, rule, reason, caller, called = ruling
    phase = table.phases[called]
    if phase is None:
        # A call to the outside is enforced by the source's own sidecar.
        outward = destination is not None and destination.startswith(EXTERNAL)
        phase = (table.phases[caller] if outward else None) or _ENFORCE
    enforced = phase is _ENFORCE or is_enforced(phase, locations, request)
    why: Reason | Objection = reason
    if not snapshot.loaded:
        objection = Objection.NO_POLICY
    if objection is not None:
        would_be, why = _DENY, objection
    verdict = would_be if enforced else _ALLOW
    parties = source if caller else None, destination if called else None
    # Half the time that ``Answer(...)`` takes.
    return _new(
        Answer, (verdict, would_be, phase, enforced, rule, why, snapshot.revision, *parties)
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
