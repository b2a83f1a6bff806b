"""What a stack decides beside the policy: where a cluster is, and what its parts run on.

``components.configuration`` reads these from the stack's configuration file. A key there is the
field's name in camelCase. Where one of several kinds may stand, its ``TAG`` says which it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import pulumi


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """Container images, each with its tag or digest."""

    evaluator: str = "ghcr.io/hanzoai/zt:latest"
    gateway: str = "ghcr.io/hanzoai/zt-gateway:latest"
    envoy: str = "docker.io/envoyproxy/envoy:v1.40.0"
    spire_server: str = "ghcr.io/spiffe/spire-server:1.13.3"
    spire_agent: str = "ghcr.io/spiffe/spire-agent:1.13.3"
    spire_controller_manager: str = "ghcr.io/spiffe/spire-controller-manager:0.6.3"
    postgres: str = "docker.io/library/postgres:18.3"


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopted:
    """A cluster that exists, by a kubeconfig file: its path is relative to the checkout."""

    TAG: ClassVar[str] = "adopt"

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
    """A cluster to be made on DigitalOcean; ``network`` is that of its nodes, in CIDR form."""

    TAG: ClassVar[str] = "create"

    region: str
    version: str
    network: str
    pools: tuple[NodePool, ...]
    default_size: str = "s-2vcpu-4gb"


@dataclass(frozen=True, slots=True, kw_only=True)
class DevelopmentAuthority:
    """A CA in a Secret (``tls.crt``, ``tls.key``, ``bundle.crt``); never for production."""

    TAG: ClassVar[str] = "development"

    secret: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySource:
    """A secret of KMS, by reference: read in the pod, with the pod's own identity.

    ``auth`` is the mount of KMS that takes the pod's token, ``role`` its role there (by default
    called like the project), ``authority`` the one CA (PEM) that is trusted to be KMS's.
    """

    TAG: ClassVar[str] = "keySource"

    address: str
    project: str
    path: str
    auth: str = "kubernetes"
    role: str = ""
    authority: str = ""
    namespace: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExistingDatabase:
    """A PostgreSQL whose connection string is in a Secret that someone made."""

    TAG: ClassVar[str] = "existing"

    secret: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExistingTrail:
    """A PostgreSQL for the audit trail, by keys of a Secret that someone made.

    Without the login that owns its tables the stack migrates nothing, without that of the retention
    role nothing is ever dropped.
    """

    TAG: ClassVar[str] = "existing"

    secret: str = "zt-secrets"  # noqa: S105 - the name of a Secret
    key: str = "AUDIT_DATABASE_URL"
    admin_key: str | None = None
    retention_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterDatabase:
    """A PostgreSQL that runs in the cluster; its passwords are made there."""

    TAG: ClassVar[str] = "inCluster"

    storage: str
    storage_class: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagedDatabase:
    """A managed PostgreSQL on DigitalOcean, in the cluster's region."""

    TAG: ClassVar[str] = "managed"

    size: str
    nodes: int
    region: str
    version: str = "17"
    # The cluster's ID and network on DigitalOcean, for firewall and address: written down for a
    # cluster that was adopted, filled in for one that the stack makes.
    cluster_id: str | pulumi.Output[str] | None = None
    network: str | pulumi.Output[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Spire:
    """SPIRE's servers and agents.

    ``node_authority`` names a ConfigMap with ``ca.crt``: who issues the certificates by which
    agents outside Kubernetes are attested, where the policy has such.
    """

    replicas: int
    authority: DevelopmentAuthority | KeySource
    datastore: ExistingDatabase | ClusterDatabase
    node_authority: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluator:
    """The evaluator's pods."""

    replicas: int
    durability: str = "process"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """The WireGuard gateway; without keys it is not made. ``peers`` are public keys by cluster.

    ``userspace``: by wireguard-go over the node's /dev/net/tun, where the kernel has no WireGuard.
    ``drain``: how many seconds the lane that a rotation leaves stays; sessions end after 180.
    """

    keys: KeySource | None = None
    peers: tuple[tuple[str, str], ...] = field(default=())
    userspace: bool = False
    drain: int = 180


@dataclass(frozen=True, slots=True, kw_only=True)
class StackSettings:
    """One stack.

    ``reapply`` is any text: another than before writes policies whole again (``components.kube``).
    """

    cluster: str
    production: bool
    kubernetes: Adopted | Created
    spire: Spire
    evaluator: Evaluator
    audit: ExistingTrail | ClusterDatabase | ManagedDatabase
    gateway: Gateway = field(default_factory=Gateway)
    images: Images = field(default_factory=Images)
    policies: str = "policies"
    reapply: str = ""
