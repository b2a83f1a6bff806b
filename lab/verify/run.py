"""All that ``zt lab verify`` does: the pairs of each cluster, then what is promised besides."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lab.check.model import Check, Site, site_of
from lab.check.run import across, checks
from lab.verify.callers import Callers, callers
from lab.verify.report import Report
from lab.verify.site import Lab, stages_of
from lab.verify.verify import Verification, verify

Say = Callable[[str], None]


def run(lab: Lab, clusters: Sequence[str], say: Say) -> Report:
    """Verify clusters of a lab.

    Raises:
        LabError: if that can't be done.
    """
    with callers() as found:
        pairs = _pairs(lab, clusters, found, say)
        sites = [
            site_of(cluster, lab.policy, lab.api(cluster), lab.nodes, found) for cluster in clusters
        ]
        # They stop applications: not while pairs call.
        seen = [check for site in sites for check in _checks(site, say)]
        return Report(pairs, (*seen, *across(sites)))


def _pairs(
    lab: Lab, clusters: Sequence[str], callers: Callers, say: Say
) -> tuple[Verification, ...]:
    say("every service calls every other")
    with stages_of(lab, clusters, callers) as stages:
        found = verify(stages)
    for item in found:
        say(f"{item.cluster}: {len(item.outcomes)} attempts, {item.mismatches} mismatches")
    return found


def _checks(site: Site, say: Say) -> tuple[Check, ...]:
    say(f"{site.cluster}: what is promised besides")
    found = tuple(checks(site))
    say(f"{site.cluster}: {sum(check.held for check in found)} of {len(found)} checks held")
    return found
