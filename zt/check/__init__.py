"""Everything that is wrong with a policy that could be read.

``zt.load`` says what is no policy at all; here is what contradicts itself, names what is not there,
or could not be enforced. Each module holds one concern.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date

from zt.check import (
    addresses,
    agents,
    grants,
    lifetimes,
    names,
    operators,
    rollout,
    rules,
    services,
    tunnels,
)
from zt.check.facts import Facts
from zt.memory import collector_paused
from zt.model import Policy
from zt.position import Finding

_CHECKS: tuple[Callable[[Facts], Iterator[Finding]], ...] = (
    names.check,
    services.check,
    addresses.check,
    tunnels.check,
    rules.check,
    grants.check,
    lifetimes.check,
    operators.check,
    agents.check,
    rollout.check,
)


def check(policy: Policy, today: date) -> tuple[Finding, ...]:
    """All findings on a day, each once, in the order of the files.

    Only warnings depend on the day: what compiles today compiles tomorrow.
    """
    facts = Facts(policy, today)
    with collector_paused():
        found = {finding for examine in _CHECKS for finding in examine(facts)}
    return tuple(sorted(found, key=_order))


def _order(finding: Finding) -> tuple[str, int, int, str, str]:
    where = finding.where
    return where.file, where.line, where.column, finding.code, finding.message
