"""What a change of policy means: who newly reaches whom, who no longer does, and who may do what.

Two policies are compared by what they grant, not by how they are written: rules that only moved, or
were split or merged, change nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from zt.diff.fields import Change, changes
from zt.diff.reach import Moved, PhaseChange, Reach, compare_reach, phase_changes
from zt.diff.rights import (
    AgentRight,
    OperatorRight,
    RoleHolder,
    agent_ceilings,
    agent_rights,
    operator_rights,
    role_holders,
)
from zt.effective import Effective
from zt.graph import parties

__all__ = [
    "AgentRight",
    "Change",
    "Diff",
    "Moved",
    "OperatorRight",
    "PhaseChange",
    "Reach",
    "RoleHolder",
    "diff",
]

Right = OperatorRight | RoleHolder | AgentRight


@dataclass(frozen=True, slots=True)
class Diff:
    """All that differs; each part is empty where nothing does.

    ``gained`` and ``lost`` are connections that ``decide`` newly allows, or no longer does;
    ``moved`` are those that only got another rule. ``added`` and ``removed`` are IDs of parties.
    ``changes`` are fields of what stands in both policies.
    """

    gained: tuple[Reach, ...]
    lost: tuple[Reach, ...]
    moved: tuple[Moved, ...]
    phases: tuple[PhaseChange, ...]
    added: tuple[str, ...]
    removed: tuple[str, ...]
    rights_gained: tuple[Right, ...]
    rights_lost: tuple[Right, ...]
    changes: tuple[Change, ...]

    @property
    def changes_access(self) -> bool:
        """Whether anyone can reach or do more than before, or less."""
        return bool(
            self.gained
            or self.lost
            or self.phases
            or self.rights_gained
            or self.rights_lost
            or any(change.access for change in self.changes)
        )


def diff(old: Effective, new: Effective) -> Diff:
    """Compare two policies, each resolved on its day."""
    gained, lost, moved = compare_reach(old, new)
    before, after = parties(old), parties(new)
    rights = [
        compare(old.policy, new.policy) for compare in (operator_rights, role_holders, agent_rights)
    ]
    return Diff(
        gained=gained,
        lost=lost,
        moved=moved,
        phases=phase_changes(old, new),
        added=tuple(party for party in after if party not in before),
        removed=tuple(party for party in before if party not in after),
        rights_gained=tuple(right for found in rights for right in found[0]),
        rights_lost=tuple(right for found in rights for right in found[1]),
        changes=(*changes(old.policy, new.policy), *agent_ceilings(old.policy, new.policy)),
    )
