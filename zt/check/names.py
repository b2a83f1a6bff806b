"""Names: each is given once, and the mesh's own services exist."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import TypeVar

from zt.check.facts import Facts
from zt.check.report import error
from zt.model import (
    AgentAccessPolicy,
    ExternalService,
    OperatorAccessPolicy,
    OperatorRoleBinding,
    ServiceAccessPolicy,
)
from zt.position import Finding, Where

Named = ExternalService | OperatorRoleBinding | AgentAccessPolicy
Numbered = ServiceAccessPolicy | OperatorAccessPolicy
T = TypeVar("T")


def check(facts: Facts) -> Iterator[Finding]:
    """Duplicate names, and names of the mesh's own services."""
    yield from _documents(facts)
    yield from _services(facts)
    yield from _places(facts)
    yield from _infrastructure(facts)


def _documents(facts: Facts) -> Iterator[Finding]:
    policy = facts.policy
    others: tuple[Named, ...] = (*policy.externals, *policy.bindings, *policy.agents)
    yield from _twice(
        others,
        lambda item: (item.KIND, item.name),
        lambda item: item.where.field("name"),
        lambda item: f"{item.KIND} {item.name!r}",
    )
    # Both kinds number their rules, and the audit trail names a rule by policy and number.
    numbered: tuple[Numbered, ...] = (*policy.access, *policy.operators)
    yield from _twice(
        numbered,
        lambda item: item.name,
        lambda item: item.where.field("name"),
        lambda item: f"policy {item.name!r}",
    )
    yield from _twice(
        policy.agents,
        lambda item: item.client_id,
        lambda item: item.where.field("clientId"),
        lambda item: f"client {item.client_id!r}",
    )


def _services(facts: Facts) -> Iterator[Finding]:
    mesh = facts.mesh
    yield from _twice(
        facts.policy.services,
        lambda item: (item.cluster, item.name),
        lambda item: item.where.field("name"),
        lambda item: f"service {item.name!r} of {item.cluster}",
    )
    yield from _twice(
        facts.policy.services,
        lambda item: item.spiffe(mesh),
        lambda item: item.where.field("serviceAccount" if item.service_account else "name"),
        lambda item: f"SPIFFE ID {item.spiffe(mesh)}",
        advice="give one of the services a service account of its own",
    )


def _places(facts: Facts) -> Iterator[Finding]:
    mesh = facts.mesh
    clusters = [(item.name, item.where.field("name")) for item in mesh.clusters]
    outside = [
        (name, mesh.where.field("outside", index)) for index, name in enumerate(mesh.outside)
    ]
    yield from _twice(
        (*clusters, *outside),
        lambda item: item[0],
        lambda item: item[1],
        lambda item: f"cluster or place outside {item[0]!r}",
    )


def _twice(
    items: Iterable[T],
    key: Callable[[T], Hashable],
    where: Callable[[T], Where],
    what: Callable[[T], str],
    advice: str = "rename one of them",
) -> Iterator[Finding]:
    """A finding for each item whose key an item before it has, in the order of the files."""

    def position(item: T) -> tuple[str, int, int]:
        at = where(item)
        return at.file, at.line, at.column

    first: dict[Hashable, T] = {}
    for item in sorted(items, key=position):
        before = first.setdefault(key(item), item)
        if before is not item:
            message = f"{what(item)} is declared twice, first at {where(before)}: {advice}"
            yield error("duplicate-name", where(item), message)


def _infrastructure(facts: Facts) -> Iterator[Finding]:
    names = facts.mesh.infrastructure
    for cluster in facts.mesh.clusters:
        where = cluster.where.field("name")
        yield from _must_run(facts, names.evaluator, "evaluator", cluster.name, where)
        if cluster.gateway:
            where = cluster.where.field("gateway")
            yield from _must_run(facts, names.gateway, "gateway", cluster.name, where)
    # The default need not run; a name that was written down should be somebody's.
    if any(name == "metrics" for name, _ in names.where.marks) and (
        names.metrics not in facts.by_name
    ):
        hint = facts.hints.name(names.metrics, facts.by_name)
        message = f"no Service is named {names.metrics!r}, which is to scrape the metrics{hint}"
        yield error("unknown-service", names.where.field("metrics"), message)


def _must_run(facts: Facts, name: str, part: str, cluster: str, where: Where) -> Iterator[Finding]:
    if any(service.cluster == cluster for service in facts.by_name.get(name, ())):
        return
    others = {service.name for service in facts.policy.services if service.cluster == cluster}
    hint = facts.hints.name(name, others)
    message = (
        f"cluster {cluster!r} has no Service {name!r}, the mesh's {part}{hint}: "
        f"declare it there, or name the one that is in infrastructure.{part}"
    )
    yield error(f"no-{part}", where, message)
