"""What must hold of a stack before any of its resources is touched."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path

from components.configuration import ROOT, ConfigurationError, Key
from components.settings import (
    Adopted,
    Created,
    DevelopmentAuthority,
    ManagedDatabase,
    StackSettings,
)
from zt.model import Cluster, Mesh
from zt.nearest import did_you_mean, shown

Network = IPv4Network | IPv6Network

DURABILITIES = ("process", "disk", "db")

_KUBERNETES = ROOT.of("kubernetes")
_PUBLIC_KEY_BYTES = 32
# Names of clusters, contexts and users in a kubeconfig, which is YAML or JSON.
_NAMES = re.compile(r"""["']?\bname["']?\s*:\s*["']?([^\s"',}]+)""")


def require_configuration(settings: StackSettings) -> None:
    """Refuse what is wrong whatever the policy says.

    Raises:
        ConfigurationError: says what, and what to do.
    """
    _require_authority(settings)
    _require_numbers(settings)
    if isinstance(settings.audit, ManagedDatabase):
        _require_place(settings.audit, settings.kubernetes)
    if isinstance(settings.kubernetes, Adopted):
        _require_kubeconfig(settings.kubernetes)
    else:
        _require_pools(settings.kubernetes)


def require_mesh(settings: StackSettings, mesh: Mesh) -> None:
    """Refuse what doesn't fit the mesh of the policy.

    Raises:
        ConfigurationError: says what, and what to do.
    """
    names = [cluster.name for cluster in mesh.clusters]
    if settings.cluster not in names:
        near = did_you_mean(settings.cluster, names)
        ROOT.of("cluster").refuse(
            f"{shown(settings.cluster)} is no cluster of mesh {mesh.name!r}{near}:"
            f" use one of {', '.join(names)}, or declare it in {mesh.where.file}"
        )
    if isinstance(settings.kubernetes, Created):
        _require_network(settings.kubernetes, mesh)
    _require_peers(settings, mesh)


def _require_authority(settings: StackSettings) -> None:
    authority = settings.spire.authority
    if settings.production and isinstance(authority, DevelopmentAuthority):
        ROOT.of("spire").of("authority").refuse(
            f"is a development CA (Secret {authority.secret!r}), which a production stack must"
            " not have: give it a keySource, or set hanzo-zt:production to false"
        )


def _require_numbers(settings: StackSettings) -> None:
    for name in ("spire", "evaluator"):
        if getattr(settings, name).replicas < 1:
            ROOT.of(name).of("replicas").refuse("should be 1 or more")
    if settings.gateway.drain < 1:
        ROOT.of("gateway").of("drain").refuse("should be 1 second or more")
    durability = settings.evaluator.durability
    if durability not in DURABILITIES:
        near = did_you_mean(durability, DURABILITIES)
        ROOT.of("evaluator").of("durability").refuse(
            f"{shown(durability)} is no durability{near}: use one of {', '.join(DURABILITIES)}"
        )


def _require_place(audit: ManagedDatabase, where: Adopted | Created) -> None:
    """A managed database lies in the network of the cluster, and lets that alone in."""
    key = ROOT.of("audit").of(ManagedDatabase.TAG)
    if isinstance(where, Created):
        if audit.region != where.region:
            key.of("region").refuse(
                f"is {audit.region}, but the cluster is made in {where.region}:"
                " a database shares the network of its cluster, so give both the same"
            )
        return
    for name, value in (("clusterId", audit.cluster_id), ("network", audit.network)):
        if value is None:
            key.of(name).refuse(
                "is missing: for a cluster that was adopted, take the ID that"
                " `doctl kubernetes cluster get NAME` shows"
            )


# --- Adopted --------------------------------------------------------------------------------------


def _require_kubeconfig(adopted: Adopted) -> None:
    key = _KUBERNETES.of(Adopted.TAG).of("kubeconfig")
    text = _kubeconfig(Path(adopted.kubeconfig), key)
    names = set(_NAMES.findall(text))
    if not names:
        key.refuse(f"{adopted.kubeconfig} is no kubeconfig: it names no cluster; {_SET_IT}")
    if adopted.context is not None and adopted.context not in names:
        near = did_you_mean(adopted.context, names)
        _KUBERNETES.of(Adopted.TAG).of("context").refuse(
            f"{shown(adopted.context)} is no context of {adopted.kubeconfig}{near}:"
            " `kubectl config get-contexts` lists them"
        )


_SET_IT = (
    "name a file that you can read with"
    " `pulumi config set --path hanzo-zt:kubernetes.adopt.kubeconfig PATH`"
)


def _kubeconfig(path: Path, key: Key) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        problem = error.strerror or str(error)
    except UnicodeDecodeError:
        problem = "it is no text"
    raise ConfigurationError(f"{key.path} {path} cannot be read ({problem}): {_SET_IT}")


# --- Created --------------------------------------------------------------------------------------


def _require_pools(created: Created) -> None:
    key = _KUBERNETES.of(Created.TAG).of("pools")
    names = [pool.name for pool in created.pools]
    for index, pool in enumerate(created.pools):
        if not 0 <= pool.least <= pool.most or pool.most == 0:
            key.of(index).refuse(
                f"has between {pool.least} and {pool.most} nodes: least should not be above most"
            )
        if pool.name in names[:index]:
            key.of(index).of("name").refuse(
                f"{shown(pool.name)} is the name of another pool: give each its own"
            )


def _require_network(created: Created, mesh: Mesh) -> None:
    key = _KUBERNETES.of(Created.TAG).of("network")
    try:
        network = ip_network(created.network)
    except ValueError as error:
        key.refuse(f"is no network: {error}; write it as 10.130.0.0/20")
    for name, other in _networks(mesh):
        if network.version == other.version and network.overlaps(other):
            key.refuse(
                f"{network} overlaps with {name}, {other}:"
                " choose a range that no cluster of the mesh uses"
            )


def _networks(mesh: Mesh) -> Iterator[tuple[str, Network]]:
    for cluster in mesh.clusters:
        yield from _of(cluster)


def _of(cluster: Cluster) -> Iterator[tuple[str, Network]]:
    yield f"podCIDR of {cluster.name}", cluster.pod_cidr
    yield f"serviceCIDR of {cluster.name}", cluster.service_cidr
    if cluster.gateway:
        yield f"the tunnel's network of {cluster.name}", cluster.gateway.address.network


# --- Gateway --------------------------------------------------------------------------------------


def _require_peers(settings: StackSettings, mesh: Mesh) -> None:
    others = [
        cluster.name
        for cluster in mesh.clusters
        if cluster.gateway and cluster.name != settings.cluster
    ]
    for name, public in settings.gateway.peers:
        key = ROOT.of("gateway").of("peers").of(name)
        if name not in others:
            near = did_you_mean(name, others)
            key.refuse(f"is of no other cluster that has a gateway{near}: remove it")
        if not _is_public_key(public):
            key.refuse(
                f"{shown(public)} is no WireGuard public key: it should be the 44"
                " characters that `wg pubkey` prints"
            )


def _is_public_key(text: str) -> bool:
    try:
        return len(base64.b64decode(text, validate=True)) == _PUBLIC_KEY_BYTES
    except ValueError:
        return False
