"""Who reaches whom in two policies, and how far each refuses the rest."""

from __future__ import annotations

from dataclasses import dataclass, field

from zt.effective import Effective, Grant, party_id
from zt.graph import crosses, enforcing_phase, granted
from zt.model import Phase
from zt.position import NOWHERE, Where

_Key = tuple[str, str, int]


@dataclass(frozen=True, slots=True)
class Reach:
    """One connection that a policy grants.

    ``where`` is the position of the rule; ``phase`` that of the end that enforces it.
    """

    source: str
    destination: str
    port: int
    rule: str
    phase: Phase
    crosses: bool
    where: Where = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Moved:
    """A connection that both policies grant, by rules of different names."""

    reach: Reach
    old_rule: str


@dataclass(frozen=True, slots=True)
class PhaseChange:
    """A service that is enforced otherwise; ``granted`` may reach it all the same."""

    service: str
    old: Phase
    new: Phase
    granted: tuple[str, ...]

    @property
    def refuses_more(self) -> bool:
        """Whether connections that no rule grants passed before and are now refused."""
        return _STRICTNESS[self.new] > _STRICTNESS[self.old]


_STRICTNESS = {Phase.OBSERVE: 0, Phase.CANARY: 1, Phase.ENFORCE: 2}


def compare_reach(
    old: Effective, new: Effective
) -> tuple[tuple[Reach, ...], tuple[Reach, ...], tuple[Moved, ...]]:
    """Connections gained, lost, and granted by another rule."""
    before, after = _reaches(old), _reaches(new)
    return (
        tuple(reach for key, reach in after.items() if key not in before),
        tuple(reach for key, reach in before.items() if key not in after),
        tuple(
            Moved(reach, before[key].rule)
            for key, reach in after.items()
            if key in before and before[key].rule != reach.rule
        ),
    )


def phase_changes(old: Effective, new: Effective) -> tuple[PhaseChange, ...]:
    """Services of both policies whose phase differs."""
    before = {item.spiffe: item.phase for item in old.services}
    return tuple(
        PhaseChange(
            item.spiffe,
            before[item.spiffe],
            item.phase,
            tuple(
                dict.fromkeys(
                    party_id(grant.source, new.mesh)
                    for inbound in item.inbound
                    for grant in (*inbound.clients, *inbound.externals)
                )
            ),
        )
        for item in new.services
        if before.get(item.spiffe, item.phase) is not item.phase
    )


def _reaches(effective: Effective) -> dict[_Key, Reach]:
    found = (_reach(effective, grant) for grant in granted(effective))
    return {(reach.source, reach.destination, reach.port): reach for reach in found}


def _reach(effective: Effective, grant: Grant) -> Reach:
    ends = grant.source, grant.destination
    return Reach(
        party_id(grant.source, effective.mesh),
        party_id(grant.destination, effective.mesh),
        grant.port,
        grant.rule.name,
        enforcing_phase(effective.policy, *ends),
        crosses(*ends),
        grant.rule.rule.where,
    )
