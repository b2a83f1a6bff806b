"""What people may do: roles, who holds them, and conditions that hold."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from zt.check.facts import Facts
from zt.check.report import error, listed, warning
from zt.model import Action, OperatorRoleBinding, OperatorRule, Protocol, Service, Target
from zt.position import Finding, Where

_ALL = "*"
# Nobody between client and server could tell a read from a write here.
_OPAQUE = (Protocol.TCP, Protocol.GRPC)
_MFA, _INCIDENT = "requireMFA", "requireIncident"


@dataclass(frozen=True, slots=True)
class _Right:
    """One action on one service, or on all of them, and what it takes."""

    role: str
    action: Action
    service: str
    requires: frozenset[str]
    rule: str
    where: Where


def check(facts: Facts) -> Iterator[Finding]:
    """Findings about operators."""
    rules = [
        (f"{policy.name}/rule-{number}", rule)
        for policy in facts.policy.operators
        for number, rule in enumerate(policy.rules, 1)
    ]
    rights = [right for name, rule in rules for right in _rights(name, rule)]
    for name, rule in rules:
        yield from _conditions(name, rule)
        for target in rule.targets:
            yield from _target(facts, name, target)
    yield from _reads(facts, rights)
    yield from _Rights(facts, rights).findings()
    yield from _bindings(facts, {rule.role for _, rule in rules})
    yield from _unbound(facts, rules)


def _rights(name: str, rule: OperatorRule) -> Iterator[_Right]:
    requires = frozenset(
        key
        for condition in rule.conditions
        for key, needed in (
            (_MFA, condition.require_mfa),
            (_INCIDENT, condition.require_incident),
        )
        if needed
    )
    for target in rule.targets:
        for index, action in enumerate(target.actions):
            where = target.where.field("actions", index)
            yield _Right(rule.role, action, target.service, requires, name, where)


def _conditions(name: str, rule: OperatorRule) -> Iterator[Finding]:
    for condition in rule.conditions:
        if not (condition.require_mfa or condition.require_incident):
            message = "the condition requires nothing: set requireMFA or requireIncident to true"
            yield error("empty-condition", condition.where, message, name)


def _target(facts: Facts, name: str, target: Target) -> Iterator[Finding]:
    if target.service != _ALL and target.service not in facts.by_name:
        hint = facts.hints.name(target.service, facts.by_name)
        message = f"{target.service!r} is no Service{hint}"
        yield error("unknown-service", target.where.field("service"), message, name)


def _reads(facts: Facts, rights: list[_Right]) -> Iterator[Finding]:
    """Roles that may read and not write where the two look the same."""
    writes = {(right.role, right.service) for right in rights if right.action is Action.WRITE}
    opaque = {
        name: services for name, services in facts.by_name.items() if any(map(_is_opaque, services))
    }
    for right in rights:
        if right.action is not Action.READ or (right.role, _ALL) in writes:
            continue
        named = opaque if right.service == _ALL else [right.service]
        found = [name for name in named if name in opaque and (right.role, name) not in writes]
        if found and (right.role, right.service) not in writes:
            message = (
                f"role {right.role!r} may read and not write {listed(sorted(found))}, whose tcp or "
                "grpc ports do not show which is which: grant both or neither"
            )
            report = warning if right.service == _ALL else error
            yield report("protocol-cannot-enforce", right.where, message, right.rule)


def _is_opaque(service: Service) -> bool:
    return any(port.protocol in _OPAQUE for port in service.ports)


class _Rights:
    """Finds rights that make others pointless. Rules add up, so the weakest of them holds."""

    def __init__(self, facts: Facts, rights: list[_Right]) -> None:
        self._rights = rights
        self._known: dict[tuple[str, Action, str], dict[frozenset[str], _Right]] = defaultdict(dict)
        self._services: dict[tuple[str, Action], set[str]] = defaultdict(set)
        for right in rights:
            self._known[right.role, right.action, right.service].setdefault(right.requires, right)
            self._services[right.role, right.action].add(right.service)
        self._shared = _shared_roles(facts.policy.bindings)

    def findings(self) -> Iterator[Finding]:
        """Repeated rights, and conditions that another right does not have."""
        for right in self._rights:
            first = self._known[right.role, right.action, right.service][right.requires]
            if first is not right and first.where != right.where:
                message = (
                    f"role {right.role!r} has '{right.action}' on {right.service!r} by "
                    f"{first.rule} ({first.where}) already: take one away"
                )
                yield warning("duplicate-grant", right.where, message, right.rule)
            elif right.requires:
                yield from self._bypasses(right)

    def _bypasses(self, right: _Right) -> Iterator[Finding]:
        for role, holder in {right.role: None, **self._shared.get(right.role, {})}.items():
            for weaker in self._weaker(right, role):
                missing = listed(sorted(right.requires - weaker.requires))
                what = f"'{weaker.action}' on {_common(right, weaker)!r}"
                if holder is None:
                    message = (
                        f"role {role!r} has {what} here without the {missing} that {right.rule} "
                        f"({right.where}) asks for: add it here, or take the right away"
                    )
                    yield error("condition-bypassed", weaker.where, message, weaker.rule)
                else:
                    message = (
                        f"{holder} holds {right.role!r}, and by {role!r} has {what} here without "
                        f"the {missing} that {right.rule} ({right.where}) asks for"
                    )
                    yield warning("condition-bypassed", weaker.where, message, weaker.rule)

    def _weaker(self, right: _Right, role: str) -> Iterator[_Right]:
        """Rights of a role to the same that ask for less."""
        known = self._services.get((role, right.action), set())
        services = known if right.service == _ALL else known & {right.service, _ALL}
        for service in sorted(services):
            for requires, other in self._known[role, right.action, service].items():
                if not right.requires <= requires:
                    yield other


def _common(right: _Right, other: _Right) -> str:
    """What two rights to overlapping targets have in common."""
    return other.service if right.service == _ALL else right.service


def _shared_roles(bindings: tuple[OperatorRoleBinding, ...]) -> dict[str, dict[str, str]]:
    """For each role, the other roles that someone who holds it holds too, and who that is."""
    roles: dict[str, dict[str, None]] = defaultdict(dict)
    for binding in bindings:
        for holder in _holders(binding):
            roles[holder][binding.role] = None
    shared: dict[str, dict[str, str]] = defaultdict(dict)
    for holder, held in roles.items():
        for role in held:
            for other in held:
                if other != role:
                    shared[role].setdefault(other, holder)
    return shared


def _holders(binding: OperatorRoleBinding) -> Iterator[str]:
    for subject in binding.subjects:
        yield f"subject {subject!r}"
    for item in binding.claims:
        yield f"whoever has {item.claim} {item.value!r}"


def _bindings(facts: Facts, roles: set[str]) -> Iterator[Finding]:
    seen: dict[tuple[str, str], OperatorRoleBinding] = {}
    for binding in facts.policy.bindings:
        if binding.role not in roles:
            hint = facts.hints.name(binding.role, roles)
            message = f"no OperatorAccessPolicy speaks of role {binding.role!r}{hint}"
            yield error("unknown-role", binding.where.field("role"), message)
        if not binding.subjects and not binding.claims:
            message = f"{binding.name!r} gives the role to nobody: add 'subjects' or 'claims'"
            yield error("binds-nobody", binding.where.field("name"), message)
        for holder in _holders(binding):
            first = seen.get((binding.role, holder))
            if first:
                message = f"{holder} has role {binding.role!r} by {first.name!r} already"
                yield warning("duplicate-binding", binding.where.field("name"), message)
            seen[binding.role, holder] = first or binding


def _unbound(facts: Facts, rules: list[tuple[str, OperatorRule]]) -> Iterator[Finding]:
    bound = {binding.role for binding in facts.policy.bindings}
    told: set[str] = set()
    for name, rule in rules:
        if rule.role not in bound and rule.role not in told:
            told.add(rule.role)
            message = f"nobody holds role {rule.role!r}: add an OperatorRoleBinding"
            yield warning("unbound-role", rule.where.field("role"), message, name)
