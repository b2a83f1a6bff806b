"""A call that is tried, what should come of it, and what is odd about what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from lab.mesh.trail import Entry
from zt.decide import Decision, Verdict
from zt.effective import EffectiveService
from zt.model import Port

Json = dict[str, Any]


class Way(StrEnum):
    """How a destination is dialled."""

    NAME = "short name"
    FULL = "full name"
    IDENTITY = "own SVID, from the node of the pod"


class Layer(StrEnum):
    """Who has the first word on an attempt, whatever it is."""

    EVALUATOR = "evaluator"
    # The evaluator as its own doorkeeper: its sidecar has no part in what comes in.
    API = "api"
    HANDSHAKE = "handshake"
    NETWORK_POLICY = "NetworkPolicy"
    NO_LISTENER = "sidecar without listener"
    DNS = "DNS"
    TUNNEL = "waiting for the tunnel"


PASSING = (Layer.EVALUATOR, Layer.API)
_RECORDING = (*PASSING, Layer.HANDSHAKE)

# The evaluator speaks to whom it refuses.
_FORBIDDEN = 403

# How a call fails (words of ``lab.services.dialing``) where a layer refuses it.
_REFUSALS: Mapping[Layer, frozenset[str]] = {
    Layer.HANDSHAKE: frozenset({"tls", "reset", "closed"}),
    Layer.NETWORK_POLICY: frozenset({"unreachable"}),
    Layer.NO_LISTENER: frozenset({"refused"}),
    Layer.DNS: frozenset({"name"}),
}


class Origin(NamedTuple):
    """Where a source's call comes from, as the trail knows it; ``None`` where it is no pod."""

    pod: str | None
    node: str | None


NOWHERE = Origin(None, None)


class Expected(NamedTuple):
    """A record as it should be."""

    entry: Entry
    origin: Origin


@dataclass(frozen=True, slots=True)
class Attempt:
    """A call: ``question`` is for the dialer; ``host`` is empty where an address must be found."""

    source: EffectiveService
    destination: EffectiveService
    port: Port
    way: Way
    host: str
    layer: Layer
    decision: Decision
    question: Json

    @property
    def passes(self) -> bool:
        """Whether it reaches whom it dials if all is right."""
        return self.layer in PASSING and self.way is not Way.IDENTITY

    @property
    def waits(self) -> bool:
        """Whether nothing can be said of it yet."""
        return self.layer is Layer.TUNNEL

    def expected(self, origin: Origin) -> Expected | None:
        """The one record that it should leave, if its layer leaves any."""
        if self.layer not in _RECORDING:
            return None
        verdict = Verdict.ALLOW if self.passes else Verdict.DENY
        entry = Entry(
            self.source.spiffe,
            self.destination.spiffe,
            self.port.port,
            verdict,
            self.decision.verdict,
            self.decision.rule,
            self.layer.value,
        )
        return Expected(entry, NOWHERE if self.way is Way.IDENTITY else origin)


def surprise(attempt: Attempt, answer: Json) -> str | None:
    """What is odd about an answer of the dialer; ``None`` if it is as the policy says."""
    said, how = answer.get("answer"), answer.get("error")
    if attempt.passes:
        if not answer["ok"]:
            return f"should pass, and was refused: {_how(answer)}"
        return None if _is_whom(attempt, said) else f"somebody else answered: {said!r}"
    if attempt.layer is Layer.API and isinstance(said, dict) and said["status"] == _FORBIDDEN:
        return None
    if answer["ok"] or said:
        return f"should be refused, and {said!r} came back"
    if how in _REFUSALS[attempt.layer]:
        return None
    return f"was refused by something else than {attempt.layer}: {_how(answer)}"


def _how(answer: Json) -> str:
    detail = answer.get("detail")
    return f"{answer.get('error')} ({detail})" if detail else str(answer.get("error"))


def _is_whom(attempt: Attempt, said: object) -> bool:
    """Whether it is the service that answers; those of the mesh's own do not say who they are."""
    match said:
        case {"status": _, "body": {"service": name}} | {"service": name}:
            return bool(name == attempt.destination.service.name)
        case {"status": _} | "S" | "N":
            return True
    return False
