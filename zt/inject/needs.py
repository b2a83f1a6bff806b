"""What the pods of each declared service need, for one cluster: as values, and as a JSON file."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from zt.effective import Effective, EffectiveService, Grant, Party, party_id
from zt.model import ExternalService, Phase, Service
from zt.placement import InCluster, names
from zt.wellknown import GATEWAY_LOCAL, GATEWAY_TUNNEL

# Where the compiled bundle has it.
PATH = "injection.json"


@dataclass(frozen=True, slots=True)
class Images:
    """Container images: Envoy's, and one with nftables for the redirect."""

    envoy: str
    redirect: str


@dataclass(frozen=True, slots=True)
class Alias:
    """Names that lead to an address of loopback, where the sidecar listens for an upstream."""

    address: str
    names: tuple[str, ...]
    ports: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Needs:
    """What a pod of one service needs.

    ``captured`` maps declared ports to those of the sidecar; ``listens`` are ports that the sidecar
    has for a role of its own.
    """

    service: str
    namespace: str
    account: str
    spiffe: str
    phase: Phase
    captured: Mapping[int, int]
    listens: tuple[int, ...]
    aliases: tuple[Alias, ...]

    @property
    def sidecar(self) -> bool:
        """Whether there is anything for a sidecar to do."""
        return bool(self.captured or self.listens or self.aliases)


@dataclass(frozen=True)
class Injection:
    """What the pods of one cluster need."""

    cluster: str
    declared_only: bool
    services: tuple[Needs, ...]

    def of(self, namespace: str, account: str) -> Needs | None:
        """What a pod of a service account needs; ``None`` where no Service declares it."""
        return self._by_account.get((namespace, account))

    def named(self, service: str) -> Needs | None:
        """What the pods of a service need."""
        return next((needs for needs in self.services if needs.service == service), None)

    @cached_property
    def _by_account(self) -> dict[tuple[str, str], Needs]:
        return {(needs.namespace, needs.account): needs for needs in self.services}


def injection_of(effective: Effective, cluster: str) -> Injection:
    """What a policy says of the pods of a cluster."""
    placement = InCluster(effective)
    rollout = effective.policy.rollout
    step = rollout.step() if rollout else None
    return Injection(
        cluster,
        step is not None and step.declared_only,
        tuple(_needs(effective, placement, item) for item in effective.in_cluster(cluster)),
    )


def _needs(effective: Effective, placement: InCluster, item: EffectiveService) -> Needs:
    service = item.service
    captured = item.inbound if placement.captures(service) else ()
    is_gateway = service.name == effective.mesh.infrastructure.gateway
    return Needs(
        service=service.name,
        namespace=service.namespace,
        account=service.account,
        spiffe=item.spiffe,
        phase=item.phase,
        captured={
            inbound.port.port: placement.inbound(service, inbound.port.port).port
            for inbound in captured
        },
        listens=(GATEWAY_LOCAL, GATEWAY_TUNNEL) if is_gateway else (),
        aliases=tuple(_aliases(effective, placement, item)),
    )


# --- Names of upstreams ---------------------------------------------------------------------------


def _aliases(effective: Effective, placement: InCluster, item: EffectiveService) -> Iterator[Alias]:
    """One for each upstream; where two could have a name, it is the nearer one's."""
    ports: dict[str, list[int]] = {}
    parties: dict[str, Party] = {}
    for grant in (*item.upstreams, *filter(_has_names, item.externals)):
        named = party_id(grant.destination, effective.mesh)
        parties[named] = grant.destination
        ports.setdefault(named, []).append(grant.port)
    taken: set[str] = set()
    found = []
    for named in sorted(
        parties, key=lambda party: (_distance(item.service, parties[party]), party)
    ):
        free = tuple(name for name in names(item.service, parties[named]) if name not in taken)
        taken.update(free)
        address = placement.outbound(item.service, parties[named], ports[named][0]).host
        found.append(Alias(address, free, tuple(sorted(ports[named]))))
    yield from sorted(found, key=lambda alias: ipaddress.ip_address(alias.address))


def _has_names(grant: Grant) -> bool:
    """Whether the sidecar listens for a host outside: by its names alone."""
    return isinstance(grant.destination, ExternalService) and bool(grant.destination.hosts)


def _distance(service: Service, party: Party) -> int:
    if isinstance(party, ExternalService):
        return 3
    if party.cluster != service.cluster:
        return 2
    return 0 if party.namespace == service.namespace else 1


# --- JSON -----------------------------------------------------------------------------------------


def to_text(injection: Injection) -> str:
    """Write it, one service a line; ``from_text`` reads what this writes."""
    services = [f"    {json.dumps(_service_json(needs))}" for needs in injection.services]
    listed = "[\n" + ",\n".join(services) + "\n  ]" if services else "[]"
    head = f'"cluster": {json.dumps(injection.cluster)}'
    declared = f'"declaredOnly": {json.dumps(injection.declared_only)}'
    return f'{{\n  {head},\n  {declared},\n  "services": {listed}\n}}\n'


def from_text(text: str | bytes) -> Injection:
    """Read what ``to_text`` wrote.

    Raises:
        ValueError: if the text is something else.
    """
    try:
        content = json.loads(text)
        services = tuple(map(_service, content["services"]))
        return Injection(str(content["cluster"]), content["declaredOnly"] is True, services)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"this is no injection table: {error!r}") from None


def _service_json(needs: Needs) -> dict[str, Any]:
    return {
        "service": needs.service,
        "namespace": needs.namespace,
        "account": needs.account,
        "spiffe": needs.spiffe,
        "phase": needs.phase,
        "captured": {str(port): inbound for port, inbound in sorted(needs.captured.items())},
        "listens": needs.listens,
        "aliases": [
            {"address": alias.address, "names": alias.names, "ports": alias.ports}
            for alias in needs.aliases
        ],
    }


def _service(content: Mapping[str, Any]) -> Needs:
    return Needs(
        service=content["service"],
        namespace=content["namespace"],
        account=content["account"],
        spiffe=content["spiffe"],
        phase=Phase(content["phase"]),
        captured={int(port): inbound for port, inbound in content["captured"].items()},
        listens=tuple(content["listens"]),
        aliases=tuple(
            Alias(alias["address"], tuple(alias["names"]), tuple(alias["ports"]))
            for alias in content["aliases"]
        ),
    )
