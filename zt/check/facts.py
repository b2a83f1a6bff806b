"""What the checks of a policy share: one pass over it, and the nearest names for messages."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property

from zt.effective import NamedRule, Parties, is_expired, named_rules
from zt.model import Mesh, Policy, Service, matches_service
from zt.nearest import did_you_mean, nearest
from zt.spiffe import SpiffePattern, spiffe_id

# To find the nearest of 1,000 names takes 10 ms; whoever has more unknown names has one mistake.
_HINTS = 50


@dataclass(frozen=True)
class Facts:
    """A policy on a day, indexed."""

    policy: Policy
    today: date

    @property
    def mesh(self) -> Mesh:
        """The mesh of the policy."""
        return self.policy.mesh

    @cached_property
    def parties(self) -> Parties:
        """Who a side of a rule names."""
        return Parties(self.policy)

    @cached_property
    def rules(self) -> tuple[NamedRule, ...]:
        """All rules, also those that have expired."""
        return named_rules(self.policy)

    @cached_property
    def in_force(self) -> tuple[NamedRule, ...]:
        """The rules that have not."""
        return tuple(named for named in self.rules if not is_expired(named.rule, self.today))

    @cached_property
    def places(self) -> tuple[str, ...]:
        """The clusters, and the places outside."""
        return (*(cluster.name for cluster in self.mesh.clusters), *self.mesh.outside)

    @cached_property
    def by_name(self) -> dict[str, tuple[Service, ...]]:
        """Services by name; each cluster may have one of a name."""
        found: dict[str, list[Service]] = defaultdict(list)
        for service in self.policy.services:
            found[service.name].append(service)
        return {name: tuple(services) for name, services in found.items()}

    @cached_property
    def hints(self) -> Hints:
        """The nearest names."""
        return Hints(self.policy)


class Hints:
    """Finds nearest names, for as many messages as anyone reads."""

    def __init__(self, policy: Policy) -> None:
        self._left = _HINTS
        self._policy = policy

    def name(self, value: str, choices: Iterable[str]) -> str:
        """As ``did_you_mean``."""
        if self._left == 0:
            return ""
        self._left -= 1
        return did_you_mean(value, choices)

    def identity(self, pattern: SpiffePattern) -> str:
        """The nearest declared ID: its account elsewhere, else the account nearest in its place."""
        if self._left == 0:
            return ""
        mesh, services = self._policy.mesh, self._policy.services
        account = pattern.service_account
        near = [service for service in services if service.account == account]
        if not near:
            place = replace(pattern, service_account="*")
            there = [service for service in services if matches_service(place, service, mesh)]
            found = nearest(account, {service.account for service in there})
            near = [service for service in there if service.account == found]
        return self.name(str(pattern), {_as_pattern(item, pattern) for item in near or services})


def _as_pattern(service: Service, pattern: SpiffePattern) -> str:
    """The ID of a service, with ``*`` where the pattern has it."""
    own = service.cluster, service.namespace, service.account
    segments = (
        "*" if theirs == "*" else mine for mine, theirs in zip(own, pattern.segments, strict=True)
    )
    return spiffe_id(pattern.trust_domain, *segments)
