"""What people and agents may do, in two policies."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from zt.diff.fields import Change
from zt.model import Action, AgentAccessPolicy, Method, OperatorRule, Policy

ALL = "*"


@dataclass(frozen=True, slots=True)
class OperatorRight:
    """A role may do something to a service (``*``: to all) if the conditions hold."""

    role: str
    action: Action
    service: str
    conditions: tuple[str, ...]
    rule: str


@dataclass(frozen=True, slots=True)
class RoleHolder:
    """Who holds a role: ``subject <sub>``, or ``claim <name>=<value>``."""

    role: str
    holder: str
    binding: str


@dataclass(frozen=True, slots=True)
class AgentRight:
    """An agent may call paths that begin so, with these methods."""

    client_id: str
    service: str
    port: int
    path: str
    methods: tuple[Method, ...]
    policy: str


def operator_rights(
    old: Policy, new: Policy
) -> tuple[tuple[OperatorRight, ...], tuple[OperatorRight, ...]]:
    """Rights gained and lost.

    A right with fewer conditions includes those with more, and one on ``*`` those on each service,
    also on services that come later.
    """
    before, after = list(_operator_rights(old)), list(_operator_rights(new))
    return tuple(_beyond(after, before)), tuple(_beyond(before, after))


def role_holders(old: Policy, new: Policy) -> tuple[tuple[RoleHolder, ...], tuple[RoleHolder, ...]]:
    """Who newly holds a role, and who no longer does."""
    before = {(holder.role, holder.holder): holder for holder in _role_holders(old)}
    after = {(holder.role, holder.holder): holder for holder in _role_holders(new)}
    return (
        tuple(holder for key, holder in sorted(after.items()) if key not in before),
        tuple(holder for key, holder in sorted(before.items()) if key not in after),
    )


def agent_rights(old: Policy, new: Policy) -> tuple[tuple[AgentRight, ...], tuple[AgentRight, ...]]:
    """Rights gained and lost; a path includes those below it."""
    before, after = list(_agent_rights(old)), list(_agent_rights(new))
    return tuple(_beyond_paths(after, before)), tuple(_beyond_paths(before, after))


def agent_ceilings(old: Policy, new: Policy) -> Iterator[Change]:
    """Agents whose scopes or token life differ."""
    before, after = _ceilings(old), _ceilings(new)
    for client in sorted(before | after):
        for name in ("scopes", "maxTokenLifetime"):
            was = before.get(client, {}).get(name, "")
            now = after.get(client, {}).get(name, "")
            if was != now:
                yield Change(f"agent {client}", name, was, now, access=True)


def _operator_rights(policy: Policy) -> Iterator[OperatorRight]:
    for access in policy.operators:
        for number, rule in enumerate(access.rules, 1):
            conditions, name = _conditions(rule), f"{access.name}/rule-{number}"
            for target in rule.targets:
                for action in target.actions:
                    yield OperatorRight(rule.role, action, target.service, conditions, name)


def _conditions(rule: OperatorRule) -> tuple[str, ...]:
    found = {
        "MFA": any(condition.require_mfa for condition in rule.conditions),
        "incident": any(condition.require_incident for condition in rule.conditions),
    }
    return tuple(name for name, required in found.items() if required)


def _beyond(
    rights: Iterable[OperatorRight], others: Iterable[OperatorRight]
) -> Iterator[OperatorRight]:
    """The rights that none of the others includes; of those that include each other, the widest."""
    included: dict[tuple[str, str, Action], list[set[str]]] = defaultdict(list)
    for right in others:
        included[right.role, right.service, right.action].append(set(right.conditions))
    for right in sorted(rights, key=lambda one: (one.service != ALL, len(one.conditions))):
        own = included[right.role, right.service, right.action]
        wider = included[right.role, ALL, right.action]
        if not any(needed <= set(right.conditions) for needed in (*own, *wider)):
            own.append(set(right.conditions))
            yield right


def _role_holders(policy: Policy) -> Iterator[RoleHolder]:
    for binding in policy.bindings:
        for subject in binding.subjects:
            yield RoleHolder(binding.role, f"subject {subject}", binding.name)
        for selector in binding.claims:
            holder = f"claim {selector.claim}={selector.value}"
            yield RoleHolder(binding.role, holder, binding.name)


def _agent_rights(policy: Policy) -> Iterator[AgentRight]:
    for agent in policy.agents:
        for target in agent.services:
            for path in target.paths or ("/",):
                methods = target.methods or tuple(Method)
                place = agent.client_id, target.service, target.port
                yield AgentRight(*place, path, methods, agent.name)


def _beyond_paths(rights: Iterable[AgentRight], others: list[AgentRight]) -> Iterator[AgentRight]:
    """What is left of each right without what the others include."""
    by_place: dict[tuple[str, str, int], list[AgentRight]] = defaultdict(list)
    for other in others:
        by_place[other.client_id, other.service, other.port].append(other)
    for right in rights:
        near = by_place[right.client_id, right.service, right.port]
        covered = {
            method
            for other in near
            if _includes(other.path, right.path)
            for method in other.methods
        }
        methods = tuple(method for method in right.methods if method not in covered)
        if methods:
            yield replace(right, methods=methods)


def _includes(path: str, other: str) -> bool:
    """Whether everything below a path is below another one, by whole segments."""
    return path == other or other.startswith(path.rstrip("/") + "/")


def _ceilings(policy: Policy) -> dict[str, dict[str, str]]:
    by_client: dict[str, list[AgentAccessPolicy]] = defaultdict(list)
    for agent in policy.agents:
        by_client[agent.client_id].append(agent)
    longest = policy.mesh.lifetimes.agent_token
    return {
        client: {
            "scopes": ", ".join(sorted({scope for agent in found for scope in agent.scopes})),
            "maxTokenLifetime": f"{max(a.max_token_lifetime or longest for a in found)} s",
        }
        for client, found in by_client.items()
    }
