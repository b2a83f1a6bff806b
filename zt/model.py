"""The kinds of the policy language, ``apiVersion: zt.hanzo.ai/v1``, as frozen dataclasses.

``zt.load`` reads YAML into these, ``zt.schema`` describes them for editors. A field's YAML name is
its Python name in camelCase unless ``yaml=`` says otherwise; ``doc=`` is its one-line description.
``ServiceAccessPolicy`` and ``OperatorAccessPolicy`` are HIP-54's; the other kinds are ours.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, field
from enum import StrEnum
from typing import Any, ClassVar

from zt.position import NOWHERE, Where
from zt.spiffe import SpiffePattern, spiffe_id
from zt.values import (
    Address,
    Cidr,
    Day,
    Flag,
    HostName,
    HostPort,
    Labels,
    Name,
    PortNumber,
    Positive,
    Seconds,
    Spiffe,
    Text,
)

API_VERSION = "zt.hanzo.ai/v1"


def key(doc: str, *, yaml: str | None = None, default: Any = MISSING, empty: bool = True) -> Any:  # noqa: ANN401 - dataclasses.field has no narrower type
    """A field of a kind; ``empty=False`` refuses an empty list."""
    metadata = {"doc": doc, "yaml": yaml, "empty": empty}
    if default is MISSING:
        return field(metadata=metadata)
    return field(default=default, metadata=metadata)


def _position() -> Any:  # noqa: ANN401 - dataclasses.field has no narrower type
    """Positions never take part in comparisons: two equal policies may stand in other files."""
    return field(default=NOWHERE, compare=False, repr=False)


class Protocol(StrEnum):
    """What is spoken on a port, inside the mesh's TLS."""

    TCP = "tcp"
    HTTP = "http"
    GRPC = "grpc"
    POSTGRES = "postgres"
    REDIS = "redis"


class Phase(StrEnum):
    """How far a service's policy is enforced (HIP-54, "Rollout Strategy")."""

    OBSERVE = "observe"
    CANARY = "canary"
    ENFORCE = "enforce"


class KeyType(StrEnum):
    """Key algorithm of SVIDs and CAs."""

    EC_P256 = "ec-p256"
    EC_P384 = "ec-p384"


class KeyExchange(StrEnum):
    """TLS 1.3 key exchange groups that Envoy can offer."""

    X25519MLKEM768 = "X25519MLKEM768"
    X25519 = "X25519"
    P256 = "P-256"


class Action(StrEnum):
    """What an operator may do to a service."""

    READ = "read"
    WRITE = "write"
    LOGS = "logs"
    METRICS = "metrics"
    RESTART = "restart"


class Method(StrEnum):
    """HTTP methods that an agent may use."""

    GET = "GET"
    HEAD = "HEAD"
    POST = "POST"
    PUT = "PUT"
    PATCH = "PATCH"
    DELETE = "DELETE"


class DefaultAction(StrEnum):
    """What happens where no rule speaks; it cannot be turned off."""

    DENY = "DENY"


# --- Mesh -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Gateway:
    """The WireGuard gateway of a cluster."""

    endpoint: HostPort = key("public address and UDP port, e.g. 24.199.76.156:51820")
    address: Address = key("address inside the tunnel, e.g. 10.10.0.1/24")
    routes: tuple[Cidr, ...] = key(
        "networks of this cluster that its peers route through the tunnel", default=()
    )
    where: Where = _position()


@dataclass(frozen=True, slots=True)
class Cluster:
    """A Kubernetes cluster."""

    name: Name = key("second part of its SPIFFE IDs")
    pod_cidr: Cidr = key("network of its pods", yaml="podCIDR")
    service_cidr: Cidr = key("network of its ClusterIPs", yaml="serviceCIDR")
    node_cidrs: tuple[Cidr, ...] = key(
        "networks of its nodes, where the CNI needs them named to let probes in",
        yaml="nodeCIDRs",
        default=(),
    )
    api_server_cidrs: tuple[Cidr, ...] = key(
        "addresses from which its API server calls webhooks; default: anywhere",
        yaml="apiServerCIDRs",
        default=(),
    )
    gateway: Gateway | None = key("its end of the tunnel; without it nothing crosses", default=None)
    where: Where = _position()


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """Lifetimes of every credential and record, in seconds (HIP-54, "Certificate Lifecycle")."""

    svid: Seconds = key("workload certificates", default=3600)
    ca: Seconds = key("SPIRE's intermediate CAs", default=86400)
    root: Seconds = key("the root CA", default=365 * 86400)
    agent_token: Seconds = key("longest JWT life accepted from an agent", default=900)
    wireguard_key: Seconds = key("WireGuard keys", yaml="wireGuardKey", default=90 * 86400)
    audit: Seconds = key("audit records", default=365 * 86400)
    jwks_cache: Seconds = key("IAM's signing keys", yaml="jwksCache", default=3600)
    where: Where = _position()


@dataclass(frozen=True, slots=True)
class Infrastructure:
    """Names of the services that the mesh itself runs on; one of each name in each cluster."""

    evaluator: Name = key("the policy engine", default="zt-policy-engine")
    gateway: Name = key("the WireGuard gateways", default="wg-gateway")
    metrics: Name = key("who scrapes the sidecars' metrics", default="prometheus")
    where: Where = _position()


@dataclass(frozen=True, slots=True)
class Algorithms:
    """Algorithms are configuration everywhere (HIP-0005)."""

    key_type: KeyType = key("keys of SVIDs and CAs", default=KeyType.EC_P256)
    key_exchange: tuple[KeyExchange, ...] = key(
        "TLS groups that every Envoy offers, preferred first",
        default=(KeyExchange.X25519MLKEM768, KeyExchange.X25519, KeyExchange.P256),
        empty=False,
    )
    where: Where = _position()


@dataclass(frozen=True, slots=True)
class Mesh:
    """The mesh: one trust domain and its clusters. There is exactly one."""

    KIND: ClassVar[str] = "Mesh"

    name: Name = key("name of the mesh")
    trust_domain: HostName = key("SPIFFE trust domain, e.g. hanzo.ai")
    clusters: tuple[Cluster, ...] = key("its Kubernetes clusters", empty=False)
    outside: tuple[Name, ...] = key(
        "places outside Kubernetes whose services have IDs, e.g. ci", default=()
    )
    lifetimes: Lifetimes = key("lifetimes of credentials and records", default=Lifetimes())
    algorithms: Algorithms = key("algorithms", default=Algorithms())
    infrastructure: Infrastructure = key("services of the mesh", default=Infrastructure())
    where: Where = _position()

    def cluster(self, name: str) -> Cluster | None:
        """The cluster of that name."""
        return next((cluster for cluster in self.clusters if cluster.name == name), None)


# --- Who exists -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Port:
    """A port on which a service listens."""

    port: PortNumber = key("TCP port of the pod")
    protocol: Protocol = key("what is spoken there", default=Protocol.TCP)
    where: Where = _position()


@dataclass(frozen=True, slots=True)
class Outside:
    """Where a service that runs outside Kubernetes comes from."""

    registrar: Name = key("cluster whose SPIRE server registers it")
    selectors: tuple[Text, ...] = key(
        "SPIRE selectors that attest it, e.g. unix:user:runner", empty=False
    )
    parent: Text = key("path of the SPIFFE ID of its agent, e.g. spire/agent/x509pop/ci-runner")
    cidrs: tuple[Cidr, ...] = key("addresses that it calls from", default=())
    where: Where = _position()


@dataclass(frozen=True, slots=True)
class Service:
    """A workload with an identity."""

    KIND: ClassVar[str] = "Service"

    name: Name = key("its Kubernetes name; unique in its cluster")
    cluster: Name = key("a cluster of the mesh, or a place outside")
    namespace: Name = key("its namespace")
    service_account: Name | None = key("default: its name", default=None)
    selector: Labels = key("labels of its pods; default: app: <name>", default=())
    ports: tuple[Port, ...] = key("what it listens on", default=())
    critical: Flag = key("whether it is on the critical path, for Rollout", default=False)
    replicas: Positive | None = key("pods that it runs, where that is fixed", default=None)
    peer_ports: tuple[PortNumber, ...] = key(
        "ports on which its own pods reach each other, by NetworkPolicies alone", default=()
    )
    outside: Outside | None = key("set where it runs outside Kubernetes", default=None)
    where: Where = _position()

    @property
    def account(self) -> str:
        """Its service account, the last segment of its SPIFFE ID."""
        return self.service_account or self.name

    @property
    def labels(self) -> dict[str, str]:
        """Labels that select its pods."""
        return dict(self.selector) or {"app": self.name}

    def spiffe(self, mesh: Mesh) -> str:
        """Its SPIFFE ID."""
        return spiffe_id(mesh.trust_domain, self.cluster, self.namespace, self.account)

    def port(self, number: int) -> Port | None:
        """The declared port of that number."""
        return next((port for port in self.ports if port.port == number), None)


@dataclass(frozen=True, slots=True)
class ExternalService:
    """What is outside the mesh: it has addresses or host names, and no identity."""

    KIND: ClassVar[str] = "ExternalService"

    name: Name = key("how rules name it")
    cidrs: tuple[Cidr, ...] = key("its networks, held by NetworkPolicies", default=())
    hosts: tuple[HostName, ...] = key("its host names, held by the sidecar (SNI)", default=())
    ports: tuple[PortNumber, ...] = key("ports that it listens on", default=())
    where: Where = _position()


# --- Who may call whom ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Source:
    """Who calls: an identity (``*`` for whole segments), or an ExternalService."""

    spiffe: Spiffe | None = key("SPIFFE ID of the caller", default=None)
    external: Name | None = key("an ExternalService", default=None)
    where: Where = _position()


@dataclass(frozen=True, slots=True)
class Destination:
    """Who is called, and on which ports."""

    ports: tuple[PortNumber, ...] = key("ports that may be called", empty=False)
    spiffe: Spiffe | None = key("SPIFFE ID of the called", default=None)
    external: Name | None = key("an ExternalService", default=None)
    where: Where = _position()


@dataclass(frozen=True, slots=True)
class Rule:
    """One grant. Rules are numbered from 1 in file order."""

    source: Source = key("who calls", yaml="from")
    to: tuple[Destination, ...] = key("who may be called", empty=False)
    description: Text | None = key("why", default=None)
    expires: Day | None = key("last day on which it holds", default=None)
    where: Where = _position()


@dataclass(frozen=True, slots=True)
class ServiceAccessPolicy:
    """Who may call whom (HIP-54, "Service Authorization Policy")."""

    KIND: ClassVar[str] = "ServiceAccessPolicy"

    name: Name = key("first part of its rules' names")
    rules: tuple[Rule, ...] = key("the grants", empty=False)
    default_action: DefaultAction = key(
        "the default is DENY and cannot be turned off", default=DefaultAction.DENY
    )
    where: Where = _position()


# --- People and agents ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Target:
    """Actions on a service, or on all of them (``*``)."""

    service: Text = key("name of a service, or '*'")
    actions: tuple[Action, ...] = key("what may be done", empty=False)
    where: Where = _position()


@dataclass(frozen=True, slots=True)
class Condition:
    """What else must hold; all conditions of a rule must."""

    require_mfa: Flag = key(
        "multi-factor evidence in the session", yaml="requireMFA", default=False
    )
    require_incident: Flag = key("reference to an active incident", default=False)
    where: Where = _position()


@dataclass(frozen=True, slots=True)
class OperatorRule:
    """What a role may do to which services."""

    role: Name = key("the role")
    targets: tuple[Target, ...] = key("services and actions", empty=False)
    conditions: tuple[Condition, ...] = key("conditions of this rule", default=())
    where: Where = _position()


@dataclass(frozen=True, slots=True)
class OperatorAccessPolicy:
    """What people may do (HIP-54, "BeyondCorp Access for Operators")."""

    KIND: ClassVar[str] = "OperatorAccessPolicy"

    name: Name = key("first part of its rules' names")
    rules: tuple[OperatorRule, ...] = key("the grants", empty=False)
    where: Where = _position()


@dataclass(frozen=True, slots=True)
class ClaimSelector:
    """A claim of the operator's ID token."""

    claim: Text = key("name of the claim, e.g. groups")
    value: Text = key("value that it has or contains")
    where: Where = _position()


@dataclass(frozen=True, slots=True)
class OperatorRoleBinding:
    """Who holds a role; IAM mints no role claim."""

    KIND: ClassVar[str] = "OperatorRoleBinding"

    name: Name = key("name of the binding")
    role: Name = key("a role of an OperatorAccessPolicy")
    subjects: tuple[Text, ...] = key("subjects (the sub claim)", default=())
    claims: tuple[ClaimSelector, ...] = key("claims, any of which gives the role", default=())
    where: Where = _position()


@dataclass(frozen=True, slots=True)
class AgentTarget:
    """What an agent may call."""

    service: Name = key("name of a service")
    port: PortNumber = key("one of its ports")
    methods: tuple[Method, ...] = key("HTTP methods; default: all", default=())
    paths: tuple[Text, ...] = key("path prefixes; default: all", default=())
    where: Where = _position()


@dataclass(frozen=True, slots=True)
class AgentAccessPolicy:
    """What an AI agent may do with its token (HIP-54, "Agent-to-Service Authentication")."""

    KIND: ClassVar[str] = "AgentAccessPolicy"

    name: Name = key("name of the policy")
    client_id: Text = key("the agent's client ID in IAM")
    services: tuple[AgentTarget, ...] = key("what it may call", empty=False)
    scopes: tuple[Text, ...] = key("most scopes it may use", default=())
    max_token_lifetime: Seconds | None = key("default: the mesh's agentToken", default=None)
    where: Where = _position()


# --- How far it is enforced -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RolloutPhase:
    """One step of the rollout."""

    name: Name = key("name of the step")
    critical: Phase = key("phase of the critical services")
    non_critical: Phase = key("phase of the others")
    declared_only: Flag = key("refuse pods that no Service declares", default=False)
    where: Where = _position()


@dataclass(frozen=True, slots=True)
class ServicePhase:
    """A service that is ahead of its step, or behind it."""

    service: Name = key("name of the service")
    phase: Phase = key("its phase")
    where: Where = _position()


@dataclass(frozen=True, slots=True)
class Rollout:
    """The steps of the rollout and the one in force (HIP-54, "Rollout Strategy")."""

    KIND: ClassVar[str] = "Rollout"

    name: Name = key("name of the rollout")
    phases: tuple[RolloutPhase, ...] = key("the steps, first to last", empty=False)
    current: Name = key("name of the step in force")
    services: tuple[ServicePhase, ...] = key("exceptions by service", default=())
    where: Where = _position()

    def step(self) -> RolloutPhase | None:
        """The step in force."""
        return next((phase for phase in self.phases if phase.name == self.current), None)


Document = (
    Mesh
    | Service
    | ExternalService
    | ServiceAccessPolicy
    | OperatorAccessPolicy
    | OperatorRoleBinding
    | AgentAccessPolicy
    | Rollout
)

KINDS: tuple[type[Document], ...] = (
    Mesh,
    Service,
    ExternalService,
    ServiceAccessPolicy,
    OperatorAccessPolicy,
    OperatorRoleBinding,
    AgentAccessPolicy,
    Rollout,
)


@dataclass(frozen=True, slots=True)
class Policy:
    """All documents of a policy directory, in an order that does not depend on the files."""

    mesh: Mesh
    services: tuple[Service, ...] = ()
    externals: tuple[ExternalService, ...] = ()
    access: tuple[ServiceAccessPolicy, ...] = ()
    operators: tuple[OperatorAccessPolicy, ...] = ()
    bindings: tuple[OperatorRoleBinding, ...] = ()
    agents: tuple[AgentAccessPolicy, ...] = ()
    rollout: Rollout | None = None


def matches_service(pattern: SpiffePattern, service: Service, mesh: Mesh) -> bool:
    """Whether a pattern names a service."""
    return pattern.trust_domain == mesh.trust_domain and all(
        mine in ("*", theirs)
        for mine, theirs in zip(
            pattern.segments, (service.cluster, service.namespace, service.account), strict=True
        )
    )
