"""What AI agents may do."""

from __future__ import annotations

from collections.abc import Iterator

from zt.check.facts import Facts
from zt.check.report import error, listed, repeated, warning
from zt.model import AgentAccessPolicy, AgentTarget, Port, Protocol
from zt.position import Finding
from zt.values import duration

_HTTP = (Protocol.HTTP, Protocol.GRPC)
# A path is compared as it is sent, once it has been made canonical: these never stand in such.
_NOT_CANONICAL = ("//", "/./", "/../", "*", "?", "#", "\\", "%", " ", "\n", "\t")


def check(facts: Facts) -> Iterator[Finding]:
    """Targets that are not there or see no token, and tokens that live too long."""
    for policy in facts.policy.agents:
        for target in policy.services:
            yield from _target(facts, target)
        yield from _lifetime(facts, policy)
        for index, (name, port) in repeated((item.service, item.port) for item in policy.services):
            where = policy.services[index].where.field("service")
            message = f"port {port} of {name!r} is listed twice: put both into one"
            yield warning("duplicate-grant", where, message)
        for index, scope in repeated(policy.scopes):
            message = f"scope {scope!r} is listed twice"
            yield warning("duplicate-value", policy.where.field("scopes", index), message)


def _target(facts: Facts, target: AgentTarget) -> Iterator[Finding]:
    services = facts.by_name.get(target.service)
    if services is None:
        hint = facts.hints.name(target.service, facts.by_name)
        message = f"{target.service!r} is no Service{hint}"
        yield error("unknown-service", target.where.field("service"), message)
        return
    found = [port for service in services if (port := service.port(target.port))]
    if found:
        yield from _protocol(target, found)
    else:
        declared = sorted({port.port for service in services for port in service.ports})
        known = listed(declared) or "none"
        message = f"port {target.port} is not declared by {target.service!r}: it declares {known}"
        yield error("port-not-declared", target.where.field("port"), message)
    for index, path in enumerate(target.paths):
        if not path.startswith("/") or any(part in path for part in _NOT_CANONICAL):
            message = (
                f"{path!r} is no prefix of a path such as '/v1/': it should start with '/', and "
                "hold no '*', '?', '#', '%', '//' or '..'"
            )
            yield error("bad-path", target.where.field("paths", index), message)


def _protocol(target: AgentTarget, ports: list[Port]) -> Iterator[Finding]:
    """A token is a header of HTTP: no other protocol shows it to anyone."""
    for port in ports:
        if port.protocol not in _HTTP:
            message = (
                f"port {target.port} of {target.service!r} speaks {port.protocol}, where an "
                "agent's token cannot be seen: only http and grpc carry one"
            )
            yield error("protocol-cannot-enforce", target.where.field("port"), message)


def _lifetime(facts: Facts, policy: AgentAccessPolicy) -> Iterator[Finding]:
    longest = facts.mesh.lifetimes.agent_token
    own = policy.max_token_lifetime
    if own is not None and own > longest:
        message = (
            f"{duration(own)} is more than the mesh's agentToken of {duration(longest)}, which "
            "holds: lower it"
        )
        yield error("token-too-long", policy.where.field("maxTokenLifetime"), message)
