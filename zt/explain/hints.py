"""What would have to change for a refused connection to be allowed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from zt.decide import Reason
from zt.effective import EXTERNAL, NamedRule, Party, named_rules
from zt.explain.call import Call
from zt.graph import parties
from zt.model import Destination, ExternalService, Service, Source, matches_service
from zt.nearest import did_you_mean
from zt.position import NOWHERE, Where


@dataclass(frozen=True, slots=True)
class Hint:
    """A sentence, where in the files it points (or nowhere), and YAML that could be added there."""

    message: str
    where: Where = field(default=NOWHERE, compare=False)
    snippet: str = ""


def hints(call: Call) -> Iterator[Hint]:
    """Why a connection is refused, and the nearest thing that would allow it."""
    if call.decision.reason is Reason.UNKNOWN_SOURCE:
        yield _undeclared(call, call.source_id)
    elif call.decision.reason is Reason.UNKNOWN_DESTINATION:
        yield _undeclared(call, call.destination_id)
    elif call.among_peers():
        yield Hint("its pods reach each other there all the same, with no rule: see peerPorts")
    elif call.decision.reason is Reason.PORT_NOT_DECLARED:
        yield _port(call)
    elif call.source_id == call.destination_id:
        yield Hint("a service reaches itself on loopback, which the mesh does not touch")
    else:
        yield from _rules(call)


def _undeclared(call: Call, missing: str) -> Hint:
    kind = "ExternalService" if missing.startswith(EXTERNAL) else "Service"
    return Hint(f"no {kind} declares {missing}{did_you_mean(missing, parties(call.effective))}")


def _port(call: Call) -> Hint:
    party = call.destination
    ports: Iterable[int] = ()
    where = NOWHERE
    if isinstance(party, Service):
        ports, where = (port.port for port in party.ports), party.where.field("ports")
    elif isinstance(party, ExternalService):
        ports, where = party.ports, party.where.field("ports")
    declared = ", ".join(map(str, ports)) or "no port"
    return Hint(f"{call.destination_id} declares {declared}, not {call.port}", where)


def _rules(call: Call) -> Iterator[Hint]:
    policy = call.effective.policy
    in_force = {named.name for named in call.effective.rules}
    for named in named_rules(policy):
        if named.name not in in_force and _grants(call, named):
            message = f"{named.name} granted it until {named.rule.expires}"
            yield Hint(message, named.rule.where.field("expires"))
    yield _addition(call)


def _grants(call: Call, named: NamedRule) -> bool:
    return _names(call, named.rule.source, call.source) and any(
        call.port in item.ports and _names(call, item, call.destination) for item in named.rule.to
    )


def _names(call: Call, side: Source | Destination, party: Party | None) -> bool:
    """Whether a side of a rule names a party."""
    if isinstance(party, ExternalService):
        return side.external == party.name
    if party is None or side.spiffe is None:
        return False
    return matches_service(side.spiffe, party, call.effective.mesh)


def _addition(call: Call) -> Hint:
    """Where to add what: to the destination's entry, to the rule of the source, or a new rule."""
    own = [
        named
        for named in call.effective.rules
        if _names(call, named.rule.source, call.source) and _is_exact(named.rule.source)
    ]
    for named in own:
        for item in named.rule.to:
            if _names(call, item, call.destination) and _is_exact(item):
                ports = ", ".join(map(str, sorted({*item.ports, call.port})))
                message = f"{named.name} lets it to other ports of the destination: add {call.port}"
                return Hint(message, item.where.field("ports"), f"ports: [{ports}]")
    entry = f"- {_side(call.destination_id)}\n  ports: [{call.port}]"
    if own:
        message = f"no rule grants it: add the destination to {own[0].name}, which is the source's"
        return Hint(message, own[0].rule.where.field("to"), entry)
    indented = entry.replace("\n", "\n    ")
    rule = f"- from:\n    {_side(call.source_id)}\n  to:\n    {indented}"
    return Hint("no rule grants it, and none is the source's: add one", snippet=rule)


def _is_exact(side: Source | Destination) -> bool:
    return side.spiffe is None or side.spiffe.is_exact


def _side(party: str) -> str:
    if party.startswith(EXTERNAL):
        return f"external: {party.removeprefix(EXTERNAL)}"
    return f'spiffe: "{party}"'
