"""What a stack decides beside the policy: where a cluster is, and what its parts run on.

``components.configuration`` reads these from the stack's configuration file.
"""

from __future__ import annotations

from dataclasses import dataclass, field

INJECTION = "zt.hanzo.ai/injection"


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """Container images, each with its tag or digest."""

    evaluator: str
    gateway: str
    envoy: str
    spire_server: str
    spire_agent: str
    spire_controller_manager: str
    postgres: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopted:
    """A cluster that exists, by the path of a kubeconfig file."""

    kubeconfig: str
    context: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePool:
    """Nodes of one size; between ``least`` and ``most`` of them."""

    name: str
    size: str
    least: int
    most: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Created:
    """A cluster to be made on DigitalOcean."""

    region: str
    version: str
    pools: tuple[NodePool, ...]
    default_size: str = "s-2vcpu-4gb"


@dataclass(frozen=True, slots=True, kw_only=True)
class DevelopmentAuthority:
    """A CA in a Secret (``tls.crt``, ``tls.key``, ``bundle.crt``); never for production."""

    secret: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySource:
    """A secret of KMS, by reference: read in the pod, with the pod's own identity."""

    address: str
    project: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExistingDatabase:
    """A PostgreSQL whose connection string is in a Secret that someone made."""

    secret: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterDatabase:
    """A PostgreSQL that runs in the cluster; its passwords are made there."""

    storage: str
    storage_class: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagedDatabase:
    """A managed PostgreSQL on DigitalOcean, in the cluster's region."""

    size: str
    nodes: int
    region: str
    # Of a cluster that the stack doesn't make: its ID and network, for firewall and address.
    cluster_id: str | None = None
    network: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Spire:
    """SPIRE's servers and agents."""

    replicas: int
    authority: DevelopmentAuthority | KeySource
    datastore: ExistingDatabase | ClusterDatabase


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluator:
    """The evaluator's pods."""

    replicas: int
    durability: str = "process"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """The WireGuard gateway; without keys it is not made. ``peers`` are public keys by cluster."""

    keys: KeySource | None = None
    peers: tuple[tuple[str, str], ...] = field(default=())


@dataclass(frozen=True, slots=True, kw_only=True)
class StackSettings:
    """One stack."""

    cluster: str
    policies: str
    production: bool
    kubernetes: Adopted | Created
    images: Images
    spire: Spire
    evaluator: Evaluator
    audit: ExistingDatabase | ClusterDatabase | ManagedDatabase
    gateway: Gateway
