"""Rules across clusters, and the tunnel that they need."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from zt.check.facts import Facts
from zt.check.report import error, listed, warning
from zt.effective import NamedRule
from zt.model import Destination, Service, Source
from zt.position import Finding


def check(facts: Facts) -> Iterator[Finding]:
    """Grants between clusters of which one has no gateway."""
    roads = _Roads(facts)
    for named in facts.rules:
        for destination in named.rule.to:
            yield from roads.missing(named, destination)


class _Roads:
    """Knows which clusters reach which. Few pairs of clusters recur in many rules."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._gateways = {cluster.name for cluster in facts.mesh.clusters if cluster.gateway}
        self._clusters = {cluster.name for cluster in facts.mesh.clusters}
        self._lacking = cache(self._lacking_between)

    def missing(self, named: NamedRule, destination: Destination) -> Iterator[Finding]:
        """The finding of one destination; a warning where ``*`` names clusters that are joined."""
        source = named.rule.source
        pairs = [
            (caller, called)
            for caller in self._of(source)
            for called in self._of(destination)
            if caller != called
        ]
        lacking = [pair for pair in pairs if self._lacking(*pair)]
        if not lacking:
            return
        caller, called = lacking[0]
        without = listed(map(repr, self._lacking(caller, called)))
        message = (
            f"the rule leads from {caller!r} to {called!r}, and nothing crosses: {without} has no "
            "gateway"
        )
        report = error if len(lacking) == len(pairs) == self._width(named, destination) else warning
        yield report("no-tunnel", destination.where.field("spiffe"), message, named.name)

    def _width(self, named: NamedRule, destination: Destination) -> int:
        """Pairs of clusters that the rule speaks of, those within one cluster included."""
        return len(self._of(named.rule.source)) * len(self._of(destination))

    def _of(self, side: Source | Destination) -> tuple[str, ...]:
        """The clusters and places outside of the services that a side names."""
        parties = self._facts.parties.of(side)
        if len(parties) == 1:
            (party,) = parties
            return (party.cluster,) if isinstance(party, Service) else ()
        return tuple(sorted({party.cluster for party in parties if isinstance(party, Service)}))

    def _lacking_between(self, caller: str, called: str) -> tuple[str, ...]:
        """Clusters without the gateway that a call needs; nobody calls a place outside."""
        if called not in self._clusters:
            return ()
        ends = [called] if caller not in self._clusters else [caller, called]
        return tuple(end for end in ends if end not in self._gateways)
