"""All checks, one after the other: some of them disturb what the others look at."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from lab.check.apiserver import api_server
from lab.check.greeter import greeters
from lab.check.jobs import jobs
from lab.check.metrics import metrics
from lab.check.model import Check, Site
from lab.check.names import names, peers
from lab.check.probes import probes
from lab.check.svid import same_roots, svids

CHECKS: tuple[Callable[[Site], Iterator[Check]], ...] = (
    svids,
    jobs,
    names,
    peers,
    api_server,
    metrics,
    greeters,
    # Stops an application for some seconds.
    probes,
)


def checks(site: Site) -> Iterator[Check]:
    """Everything about one cluster, as it is found."""
    for check in CHECKS:
        yield from check(site)


def across(sites: Sequence[Site]) -> Iterator[Check]:
    """What is said of all clusters together."""
    yield from same_roots(sites)
