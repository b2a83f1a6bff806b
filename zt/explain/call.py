"""The connection that is explained, and the statements made about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from zt.decide import Decision, Verdict
from zt.effective import Effective, EffectiveService, Inbound, NamedRule, Party
from zt.graph import crosses
from zt.model import ExternalService, Phase, Service
from zt.placement import ends_own_tls


class Stance(StrEnum):
    """What a plane does with a connection."""

    ALLOWS = "allows"
    REFUSES = "refuses"
    OPEN = "open"  # it does not restrict this one
    ABSENT = "absent"  # it is not there


@dataclass(frozen=True, slots=True)
class Statement:
    """What a plane does with a connection and why.

    ``weaker`` says where it holds less than the decision; empty where it does not.
    """

    plane: str
    stance: Stance
    why: str
    weaker: str = ""


@dataclass(frozen=True, slots=True)
class Call:
    """A connection from an ID to the port of another, with what the policy knows of them."""

    effective: Effective
    source_id: str
    destination_id: str
    port: int
    source: Party | None
    destination: Party | None
    decision: Decision
    rule: NamedRule | None
    phase: Phase

    @property
    def allowed(self) -> bool:
        """Whether the decision is ALLOW."""
        return self.decision.verdict is Verdict.ALLOW

    @property
    def rule_name(self) -> str:
        """The rule that grants it, or ``default``."""
        return self.decision.rule

    def service(self, party: Party | None) -> EffectiveService | None:
        """A party's view of the policy, where it is a service."""
        return next((item for item in self.effective.services if item.service is party), None)

    def inbound(self) -> Inbound | None:
        """The called port, where a service declares it."""
        called = self.service(self.destination)
        if called is None:
            return None
        return next((found for found in called.inbound if found.port.port == self.port), None)

    def is_enforced(self, party: Party | None) -> bool:
        """Whether a party is a service all of whose replicas enforce."""
        item = self.service(party)
        return item is not None and item.phase is Phase.ENFORCE

    def ends_own_tls(self) -> bool:
        """Whether the destination is the evaluator, which no sidecar stands before."""
        return isinstance(self.destination, Service) and ends_own_tls(
            self.destination, self.effective.mesh
        )

    def among_peers(self) -> bool:
        """Whether pods of one service reach each other, on a port that it has for that."""
        called = self.destination
        return (
            isinstance(called, Service) and called is self.source and self.port in called.peer_ports
        )

    def crosses(self) -> bool:
        """Whether both ends are services, in different places."""
        return crosses(self.source, self.destination)


def name(party: Party) -> str:
    """A party as sentences name it."""
    if isinstance(party, ExternalService):
        return f"external:{party.name}"
    return f"{party.cluster}/{party.name}"


def may_come_from(source: ExternalService, known: ExternalService) -> bool:
    """Whether a caller from outside may have an address of another that is known by its networks.

    One that declares host names alone may be anywhere.
    """
    if not source.cidrs:
        return bool(known.cidrs)
    return any(one.overlaps(two) for one in source.cidrs for two in known.cidrs)
