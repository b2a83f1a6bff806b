"""Random whole policies, as hypothesis strategies.

``policies()`` draws a ``Policy`` that is valid: ``zt check`` has no error against it (it may warn:
of an expired rule, one that another shadows, a service that no rule names). What is drawn:
one to three clusters, with a tunnel between all or none of them; with a tunnel, a place outside
Kubernetes too; the mesh's own services in each cluster; externals by networks, by host names and
both; rules with ``*`` and with last days around ``TODAY``; any step of a rollout, or none.
It shrinks towards one cluster, few services, exact rules and no rollout (all enforced).

Every choice is one draw of an integer: strategies made for each policy anew would take hypothesis
longer to set up than the tests take to run.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from ipaddress import ip_interface, ip_network
from typing import TypeVar

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from zt.load import assemble
from zt.model import (
    Cluster,
    Destination,
    Document,
    ExternalService,
    Gateway,
    Mesh,
    Outside,
    Phase,
    Policy,
    Port,
    Protocol,
    Rollout,
    RolloutPhase,
    Rule,
    Service,
    ServiceAccessPolicy,
    ServicePhase,
    Source,
    matches_service,
)
from zt.spiffe import SpiffePattern
from zt.values import Endpoint, Network

T = TypeVar("T")

TODAY = date(2026, 11, 23)
TRUST_DOMAIN = "hanzo.ai"
OUTSIDE = "ci"
CLUSTERS = ("east", "west", "north")
NAMESPACES = ("web", "data", "ops")
SERVICES = ("api", "cache", "db", "jobs", "shop")
PORTS = (80, 5432, 6379, 8080)
PEER_PORTS = (7000, 7001)
MOST_RULES = 10
EXTERNALS = (
    ExternalService("internet", cidrs=(ip_network("0.0.0.0/0"),), ports=(443,)),
    ExternalService("partner", cidrs=(ip_network("198.51.100.0/24"),), ports=(443, 8443)),
    ExternalService("provider", hosts=("api.example.com",), ports=(443,)),
    ExternalService("office", cidrs=(ip_network("10.0.0.0/8"), ip_network("2001:db8::/32"))),
    ExternalService(
        "registry",
        cidrs=(ip_network("192.0.2.0/24"),),
        hosts=("registry.example.com",),
        ports=(80, 443),
    ),
)
STEPS = (
    RolloutPhase("observe", Phase.OBSERVE, Phase.OBSERVE),
    RolloutPhase("enforce-non-critical", Phase.OBSERVE, Phase.ENFORCE),
    RolloutPhase("enforce-critical", Phase.CANARY, Phase.ENFORCE),
    RolloutPhase("full-zero-trust", Phase.ENFORCE, Phase.ENFORCE, declared_only=True),
)
LAST_DAYS = (None, TODAY, TODAY + timedelta(30), TODAY - timedelta(1))


def documents(policy: Policy) -> tuple[Document, ...]:
    """The documents of a policy, which ``zt.load.assemble`` puts together again."""
    rollout = (policy.rollout,) if policy.rollout else ()
    return (
        policy.mesh,
        *policy.services,
        *policy.externals,
        *policy.access,
        *policy.operators,
        *policy.bindings,
        *policy.agents,
        *rollout,
    )


@st.composite
def policies(draw: DrawFn) -> Policy:
    """A valid policy."""
    names = _some(draw, CLUSTERS, least=1)
    tunnel = len(names) > 1 and _one_in(draw, 2, rather=True)
    mesh = Mesh(
        "mesh",
        TRUST_DOMAIN,
        tuple(_cluster(draw, name, tunnel=tunnel) for name in names),
        outside=(OUTSIDE,) if tunnel else (),
    )
    services = [service for name in names for service in _services(draw, name)]
    if tunnel:
        services.extend(_outside_services(draw, names))
    externals = _some(draw, EXTERNALS)
    rollout = (_rollout(draw, services),) if _one_in(draw, 2) else ()
    access = _access(draw, mesh, services, externals)
    return assemble([mesh, *services, *externals, *access, *rollout])


def _pick(draw: DrawFn, items: Sequence[T]) -> T:
    """One of the items, the first where it shrinks."""
    return items[draw(st.integers(0, len(items) - 1))]


def _some(draw: DrawFn, items: Sequence[T], least: int = 0) -> list[T]:
    """Any of the items, at least none or one, in their order."""
    chosen = draw(st.integers(least, (1 << len(items)) - 1))
    return [item for bit, item in enumerate(items) if chosen >> bit & 1]


def _one_in(draw: DrawFn, number: int, *, rather: bool = False) -> bool:
    """Whether something that is so in one of ``number`` cases is so; ``rather`` shrinks to yes."""
    return (draw(st.integers(1, number)) == number) is not rather


def _cluster(draw: DrawFn, name: str, *, tunnel: bool) -> Cluster:
    number = CLUSTERS.index(name)
    pods, nodes = ip_network(f"10.{number}.0.0/16"), ip_network(f"192.168.{number}.0/24")
    return Cluster(
        name,
        pods,
        ip_network(f"10.{100 + number}.0.0/16"),
        node_cidrs=_pick(draw, ((), (nodes,))),
        api_server_cidrs=_pick(draw, ((), (ip_network("198.51.100.7/32"),))),
        gateway=_gateway(draw, name, pods) if tunnel else None,
    )


def _gateway(draw: DrawFn, name: str, pods: Network) -> Gateway:
    number = CLUSTERS.index(name) + 1
    return Gateway(
        Endpoint(_pick(draw, (f"203.0.113.{number}", f"{name}.example.com")), 51820),
        ip_interface(f"10.200.0.{number}/24"),
        _pick(draw, ((), (pods,))),
    )


def _services(draw: DrawFn, cluster: str) -> list[Service]:
    """The teams' services of a cluster, and the mesh's own."""
    own = [("zt-policy-engine", 8054), ("wg-gateway", 9586)]
    own += _some(draw, [("prometheus", 9090)])
    return [
        *(
            Service(
                name,
                cluster,
                _pick(draw, NAMESPACES),
                ports=(Port(port, Protocol.HTTP),),
                critical=_one_in(draw, 2),
            )
            for name, port in own
        ),
        *(_service(draw, name, cluster) for name in _some(draw, SERVICES, least=1)),
    ]


def _service(draw: DrawFn, name: str, cluster: str) -> Service:
    return Service(
        name,
        cluster,
        _pick(draw, NAMESPACES),
        service_account=_pick(draw, (None, f"{name}-account")),
        selector=_pick(draw, ((), (("app", name), ("tier", "backend")))),
        ports=tuple(Port(port, _pick(draw, tuple(Protocol))) for port in _some(draw, PORTS)),
        critical=_one_in(draw, 2),
        peer_ports=_pick(draw, ((), (), PEER_PORTS[:1], PEER_PORTS)),
    )


def _outside_services(draw: DrawFn, registrars: list[str]) -> list[Service]:
    return [
        Service(
            name,
            OUTSIDE,
            "runners",
            outside=Outside(
                _pick(draw, registrars),
                (f"unix:user:{name}",),
                f"spire/agent/x509pop/{name}",
                _pick(draw, ((), (ip_network("203.0.113.0/24"),))),
            ),
        )
        for name in _some(draw, ("deploy", "backup"))
    ]


def _access(
    draw: DrawFn, mesh: Mesh, services: list[Service], externals: list[ExternalService]
) -> list[ServiceAccessPolicy]:
    """Rules, shared out between two policies."""
    rules = [
        _rule(draw, mesh, services, externals) for _ in range(draw(st.integers(0, MOST_RULES)))
    ]
    half = draw(st.integers(0, len(rules)))
    return [
        ServiceAccessPolicy(name, tuple(part))
        for name, part in (("core", rules[half:]), ("more", rules[:half]))
        if part
    ]


def _rule(
    draw: DrawFn, mesh: Mesh, services: list[Service], externals: list[ExternalService]
) -> Rule:
    """A rule that grants something; without a tunnel, within one cluster."""
    if mesh.clusters[0].gateway is None:
        cluster = _pick(draw, mesh.clusters).name
        services = [service for service in services if service.cluster == cluster]
    source, parties = _source(draw, mesh, services, externals)
    first = _pick(draw, parties)
    chosen = [first, *_some(draw, [party for party in parties if party is not first][:2])]
    return Rule(
        source,
        tuple(_destination(draw, party, mesh, services) for party in chosen),
        expires=_pick(draw, LAST_DAYS),
    )


def _source(
    draw: DrawFn, mesh: Mesh, services: list[Service], externals: list[ExternalService]
) -> tuple[Source, list[Service | ExternalService]]:
    """Who calls, and what there is for it to call."""
    called = [service for service in services if service.ports]
    callers = [external for external in externals if external.cidrs]
    if callers and _one_in(draw, 4):
        return Source(external=_pick(draw, callers).name), [*called]
    caller = _pick(draw, services)
    others = [service for service in called if service is not caller]
    return Source(spiffe=_pattern(draw, caller, mesh)), [
        *others,
        *(external for external in externals if external.ports),
    ]


def _destination(
    draw: DrawFn, party: Service | ExternalService, mesh: Mesh, services: list[Service]
) -> Destination:
    """One that names the party, with ports that some service it names declares."""
    if isinstance(party, ExternalService):
        return Destination(tuple(_some(draw, party.ports, least=1)), external=party.name)
    pattern = _pattern(draw, party, mesh)
    named = [service for service in services if matches_service(pattern, service, mesh)]
    ports = sorted({port.port for service in named for port in service.ports})
    return Destination(tuple(_some(draw, ports, least=1)), spiffe=pattern)


def _pattern(draw: DrawFn, service: Service, mesh: Mesh) -> SpiffePattern:
    """The service's ID, or a pattern that names it among others."""
    segments = service.cluster, service.namespace, service.account
    if not _one_in(draw, 4):
        return SpiffePattern(mesh.trust_domain, *segments)
    stars = draw(st.integers(1, 7))
    if mesh.clusters[0].gateway is None:
        stars &= ~1
    cluster, namespace, account = (
        "*" if stars >> bit & 1 else segment for bit, segment in enumerate(segments)
    )
    return SpiffePattern(mesh.trust_domain, cluster, namespace, account)


def _rollout(draw: DrawFn, services: list[Service]) -> Rollout:
    names = sorted({service.name for service in services})
    exceptions = tuple(
        ServicePhase(name, _pick(draw, tuple(Phase)))
        for name in _some(draw, names)
        if _one_in(draw, 3)
    )
    return Rollout("rollout", STEPS, _pick(draw, STEPS[::-1]).name, exceptions)
