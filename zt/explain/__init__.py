"""Why a connection is allowed or refused: the rule, what each plane says, and what would help.

What planes say is derived from the effective policy, as each plane's compiler does. Where a plane
holds less than the decision, it says so.
"""

from __future__ import annotations

from dataclasses import dataclass

from zt.decide import Decision, DecisionTable, Verdict, decide
from zt.effective import Effective, NamedRule
from zt.explain.call import Call, Stance, Statement
from zt.explain.hints import Hint, hints
from zt.explain.network import egress, ingress, tunnel
from zt.explain.planes import admission, evaluator, handshake, identity, rbac
from zt.graph import enforcing_phase, parties
from zt.model import Phase

__all__ = ["Explanation", "Hint", "Stance", "Statement", "explain"]

_PLANES = (identity, handshake, evaluator, rbac, egress, ingress, tunnel, admission)


@dataclass(frozen=True, slots=True)
class Explanation:
    """A decision with its reasons.

    ``rule`` is the one that grants the connection; ``phase`` that of the end that enforces it.
    ``hints`` are empty where it is allowed.
    """

    source: str
    destination: str
    port: int
    decision: Decision
    rule: NamedRule | None
    phase: Phase
    planes: tuple[Statement, ...]
    hints: tuple[Hint, ...]

    @property
    def allowed(self) -> bool:
        """Whether the policy grants it, whatever the phase."""
        return self.decision.verdict is Verdict.ALLOW


def explain(
    effective: Effective, table: DecisionTable, source: str, destination: str, port: int
) -> Explanation:
    """Explain a connection between two IDs; ``table`` is that of the same policy and day."""
    decision = decide(table, source, destination, port)
    declared = parties(effective)
    ends = declared.get(source), declared.get(destination)
    rule = next((named for named in effective.rules if named.name == decision.rule), None)
    phase = enforcing_phase(effective.policy, *ends)
    call = Call(effective, source, destination, port, *ends, decision, rule, phase)
    return Explanation(
        source,
        destination,
        port,
        decision,
        rule,
        phase,
        tuple(statement for plane in _PLANES for statement in plane(call)),
        () if decision.verdict is Verdict.ALLOW else tuple(hints(call)),
    )
