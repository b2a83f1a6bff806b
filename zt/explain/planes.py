"""The planes that know identities: SPIRE, the handshake, the evaluator, the sidecar, admission."""

from __future__ import annotations

from collections.abc import Iterator

from zt.effective import EXTERNAL, Party
from zt.explain.call import Call, Stance, Statement, may_come_from, name
from zt.model import ExternalService, Phase, Service

_NAMES_SHOWN = 6
_OWN_DOOR = "its own decision comes after the handshake, and refuses every request of a connection"


def identity(call: Call) -> Iterator[Statement]:
    """What SPIRE registers the source as."""
    source = call.source
    if isinstance(source, ExternalService):
        networks = ", ".join(map(str, source.cidrs)) or "nothing: it has no cidrs"
        why = f"{name(source)} has no SVID; it is known by {networks}"
        yield Statement("identity", Stance.ABSENT, why, "an address proves less than an identity")
    elif source is None:
        why = f"nothing declares {call.source_id}"
        if not call.source_id.startswith(EXTERNAL):
            why += ", so SPIRE gives nobody that SVID"
        yield Statement("identity", Stance.REFUSES, why)
    else:
        yield Statement("identity", Stance.ALLOWS, _registration(source, call.source_id))


def _registration(service: Service, spiffe: str) -> str:
    if service.outside is None:
        owner = f"pods of service account {service.account} in namespace {service.namespace}"
        return f"SPIRE of {service.cluster} registers {spiffe} for {owner}"
    outside = service.outside
    return (
        f"SPIRE of {outside.registrar} registers {spiffe} for {', '.join(outside.selectors)} "
        f"below agent {outside.parent}"
    )


def handshake(call: Call) -> Iterator[Statement]:
    """Who completes a TLS handshake on the destination's port."""
    plane, destination = "handshake", call.destination
    inbound = call.inbound()
    if isinstance(destination, ExternalService):
        yield Statement(plane, Stance.ABSENT, f"{name(destination)} has no sidecar")
    elif destination is None or inbound is None:
        yield Statement(plane, Stance.ABSENT, f"no sidecar listens for port {call.port}")
    elif call.ends_own_tls():
        why = "the evaluator ends TLS itself, and takes any SVID of the mesh"
        yield Statement(plane, Stance.OPEN, why, _OWN_DOOR)
    elif not call.is_enforced(destination):
        why = f"phase {call.phase}: takes any SVID of the mesh, other TLS, and plaintext"
        yield Statement(plane, Stance.OPEN, why)
    elif isinstance(call.source, ExternalService):
        yield _door(call)
    else:
        clients = tuple(grant.source for grant in inbound.clients)
        stance = Stance.ALLOWS if call.allowed else Stance.REFUSES
        on = "is" if call.allowed else "is not"
        why = f"the source {on} on the SAN list of port {call.port}: {_listed(clients)}"
        yield Statement(plane, stance, why)


def _listed(parties: tuple[Party, ...]) -> str:
    names = [name(party) for party in parties]
    more = len(names) - _NAMES_SHOWN
    shown = ", ".join(names[:_NAMES_SHOWN]) or "nobody"
    return f"{shown} and {more} more" if more > 0 else shown


def _door(call: Call) -> Statement:
    """A caller from outside comes in by a filter chain for its networks, without a certificate."""
    source = call.source
    assert isinstance(source, ExternalService)  # noqa: S101 - the caller has looked
    if call.allowed:
        why = f"a filter chain for the networks of {name(source)} asks for no certificate"
        return Statement("handshake", Stance.ALLOWS, why, "it holds by address alone")
    others = _overlapping(call, source)
    if others:
        why = f"some of its addresses are also those of {', '.join(others)}, whom a rule lets in"
        return Statement("handshake", Stance.OPEN, why, "it tells them apart by address alone")
    return Statement("handshake", Stance.REFUSES, "no filter chain is for its networks")


def _overlapping(call: Call, source: ExternalService) -> list[str]:
    """Who else may come from the same addresses."""
    inbound = call.inbound()
    return [
        name(other)
        for grant in (inbound.externals if inbound else ())
        if isinstance(other := grant.source, ExternalService) and may_come_from(source, other)
    ]


def evaluator(call: Call) -> Iterator[Statement]:
    """What the evaluator answers, and whether it is asked at all."""
    plane = "decision"
    said = f"{call.decision.verdict} by {call.rule_name} ({call.decision.reason})"
    if call.inbound() is None:
        why = f"{said}, but no sidecar asks: it is asked where connections arrive"
        yield Statement(plane, Stance.ABSENT, why, "the connection is not recorded")
    elif call.phase is Phase.OBSERVE:
        yield Statement(plane, Stance.OPEN, f"answers ALLOW, and records {said}")
    elif call.phase is Phase.CANARY:
        stance = Stance.ALLOWS if call.allowed else Stance.OPEN
        yield Statement(plane, stance, f"{said}; it holds on one replica, the others record it")
    else:
        yield Statement(plane, Stance.ALLOWS if call.allowed else Stance.REFUSES, said)


def rbac(call: Call) -> Iterator[Statement]:
    """What the destination's sidecar says after the evaluator."""
    plane = "sidecar RBAC"
    if call.inbound() is None or call.ends_own_tls():
        yield Statement(plane, Stance.ABSENT, f"no sidecar listens for port {call.port}")
    elif not call.is_enforced(call.destination):
        yield Statement(plane, Stance.OPEN, f"phase {call.phase}: its list is not installed")
    elif isinstance(call.source, ExternalService):
        why = "it knows identities; a caller from outside has none"
        yield Statement(plane, Stance.ABSENT, why)
    elif call.allowed:
        yield Statement(plane, Stance.ALLOWS, f"policy {call.rule_name} names the source")
    else:
        yield Statement(plane, Stance.REFUSES, "no policy names the source")


def admission(call: Call) -> Iterator[Statement]:
    """Who may start pods as the source."""
    plane = "admission"
    rollout = call.effective.policy.rollout
    step = rollout.step() if rollout else None
    declared_only = step is not None and step.declared_only
    source = call.source
    if isinstance(source, Service) and source.outside is None:
        labels = ", ".join(f"{key}={value}" for key, value in sorted(source.labels.items()))
        why = f"only pods of service account {source.account} may carry its labels ({labels})"
        yield Statement(plane, Stance.ALLOWS, why)
    elif source is None and declared_only:
        why = "declaredOnly: in namespaces of the mesh, pods that no Service declares do not start"
        yield Statement(plane, Stance.REFUSES, why)
    else:
        yield Statement(plane, Stance.ABSENT, "the source is no pod of the mesh")
