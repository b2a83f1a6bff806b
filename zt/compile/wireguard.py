"""Tunnel: the WireGuard configuration of a cluster's gateway, a full mesh of all gateways.

Written twice: as HIP-54 prints it ("WireGuard Configuration"), for people and for ``wg``, and as
YAML for programs, so that none has to parse the former.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network

from zt.bundle import CompiledFile
from zt.effective import Effective
from zt.emit import note
from zt.model import Gateway, Mesh

KEEPALIVE_SECONDS = 25


def compile_wireguard(effective: Effective, cluster: str) -> Iterator[CompiledFile]:
    """``<cluster>-wg0.conf`` and ``peers.yaml``; nothing for a cluster without a gateway."""
    mesh = effective.mesh
    found = mesh.cluster(cluster)
    if found is None or found.gateway is None:
        return
    gateway, peers = found.gateway, _peers(mesh, cluster)
    yield CompiledFile(f"wireguard/{cluster}-wg0.conf", _configuration(cluster, gateway, peers))
    yield CompiledFile(
        "wireguard/peers.yaml",
        {
            "cluster": cluster,
            "interface": {"address": str(gateway.address), "listenPort": gateway.endpoint.port},
            "peers": [_peer(effective, name, peer) for name, peer in peers],
        },
        f"The tunnel of {cluster}, from Mesh {mesh.name}. Keys come from elsewhere.",
    )


def public_key_placeholder(cluster: str) -> str:
    """What stands in the configuration for a peer's public key, which its own stack puts out."""
    return f"<{cluster}-public-key>"


def _peers(mesh: Mesh, cluster: str) -> list[tuple[str, Gateway]]:
    return sorted(
        (
            (other.name, other.gateway)
            for other in mesh.clusters
            if other.gateway is not None and other.name != cluster
        ),
        key=lambda peer: peer[0],
    )


def _configuration(cluster: str, gateway: Gateway, peers: list[tuple[str, Gateway]]) -> str:
    lines = [
        f"# {cluster} wg-gateway",
        "[Interface]",
        "# PrivateKey is not here: the gateway sets it by file, from KMS.",
        f"Address = {gateway.address}",
        f"ListenPort = {gateway.endpoint.port}",
    ]
    for name, peer in peers:
        lines += [
            "",
            "[Peer]",
            f"# {name} gateway",
            f"PublicKey = {public_key_placeholder(name)}",
            f"AllowedIPs = {', '.join(_allowed(peer))}",
            f"Endpoint = {peer.endpoint}",
            f"PersistentKeepalive = {KEEPALIVE_SECONDS}",
        ]
    return "\n".join([*lines, ""])


def _peer(effective: Effective, name: str, peer: Gateway) -> dict[str, object]:
    service = effective.find(name, effective.mesh.infrastructure.gateway)
    return {
        "cluster": name,
        **({"spiffe": note(service.spiffe, "Who vouches for its public keys.")} if service else {}),
        "endpoint": str(peer.endpoint),
        "allowedIPs": note(list(_allowed(peer)), f"Its own address, and the routes of {name}."),
        "persistentKeepalive": KEEPALIVE_SECONDS,
    }


def _allowed(peer: Gateway) -> tuple[str, ...]:
    """What may come from a peer, and go to it: its tunnel address alone, then its routes."""
    return tuple(str(network) for network in (ip_network(peer.address.ip), *peer.routes))
