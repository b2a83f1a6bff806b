"""One fault after the other, each under traffic of its own, and what the trail says of it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Protocol

from lab.cluster.model import LabError
from lab.faults.expect import EXPECTATIONS, Injury
from lab.faults.hearing import await_hearing
from lab.faults.kinds import Kind, await_back, break_it
from lab.faults.report import Outcome
from lab.faults.site import Site
from lab.faults.tally import Edge, Seen, Tally, lost, tally
from lab.faults.traffic import Traffic, running, until_steady

Report = Callable[[str], None]

# Seconds without a failure before anything breaks, and after it.
_QUIET = 5.0
_PATIENCE = 90.0
# What a bound is missed by is still measured.
_LONGER = 2.0
_SPOOLED = 60.0
_PAUSE = 1.0


class Recorded(Protocol):
    """How many connections the trail has as allowed since a time, by edge."""

    def __call__(self, since: datetime) -> Counter[Edge]:
        """Read.

        Raises:
            LabError: if it can't be read.
        """


def run(site: Site, kind: Kind, recorded: Recorded, report: Report) -> Outcome:
    """Break something under traffic, and wait until it is over.

    Raises:
        LabError: if traffic is not steady before, or it can't be broken.
    """
    await_hearing(site, report)
    target, expected, began = kind.choose(site), EXPECTATIONS[kind.name], datetime.now(UTC)
    with running(site.dial, site.flows()) as traffic:
        if not until_steady(traffic, _QUIET, _PATIENCE):
            raise LabError(f"before {kind.title} broke, {unsteady(traffic)}")
        report(f"{kind.title}: killing {target}")
        at = time.time()
        broken = break_it(site, target)
        _stay_down(site, kind)
        is_back = await_back(broken, expected.back * _LONGER, traffic.begin)
        injury = Injury(target.touched, at, time.time() if is_back else None)
        if kind.down:
            site.revive()  # who ended because of it, and later
        steady = until_steady(traffic, _QUIET, _PATIENCE)
        seen = tally(traffic.end(), since=at - _QUIET)
    outcome = Outcome(
        name=kind.name,
        title=kind.title,
        target=str(target),
        down=kind.down,
        expected=expected,
        injury=injury,
        seen=seen,
        recorded=_all_recorded(seen, recorded, began),
        steady=steady,
    )
    report(f"{kind.title}: {_said(outcome)}")
    for sentence in outcome.surprises:
        report(f"  {sentence}")
    return outcome


def _stay_down(site: Site, kind: Kind) -> None:
    if kind.down:
        time.sleep(kind.down)
        site.revive()


def _all_recorded(seen: Tally, recorded: Recorded, since: datetime) -> Mapping[Edge, int]:
    """What the trail has, once the spools are drained, or will not be."""
    deadline = time.monotonic() + _SPOOLED
    while lost(seen.acknowledged, found := recorded(since)) and time.monotonic() < deadline:
        time.sleep(_PAUSE)
    return found


def unsteady(traffic: Traffic) -> str:
    """Why traffic is not steady, as the end of a sentence."""
    missing = traffic.missing()
    if missing:
        return f"no caller ran in {', '.join(missing)}"
    odd = sorted({f"{item.flow} ({_last(item)})" for item in traffic.current() if _last(item)})
    return f"these flows were not steady: {', '.join(odd) or 'none ever began'}"


def _last(seen: Seen) -> str | None:
    """Why a declared flow fails now; ``None`` if it does not."""
    if not seen.flow.declared:
        return None
    if not seen.events:
        return "no word of it"
    return seen.events[-1].error


def _said(outcome: Outcome) -> str:
    recovery = outcome.injury.recovery
    back = "never back" if recovery is None else f"back after {recovery:.1f} s"
    seen = outcome.seen
    return (
        f"{back}; {len(seen.failed)} of {seen.opened} new connections failed, {len(seen.cut)} open"
        f" ones ended, {len(outcome.surprises)} surprises"
    )
