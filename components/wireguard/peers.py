"""Peers of the tunnel: what the policy compiles of them, and the public keys that the stack knows.

A gateway's key is made where it is used, so another cluster's public key comes by hand. It may be
missing in the first run, and comes with a later one.
"""

from __future__ import annotations

from typing import Any

from components.settings import StackSettings
from zt.bundle import Bundle

_COMPILED = "wireguard/peers.yaml"


def is_wanted(bundle: Bundle, settings: StackSettings) -> bool:
    """Whether the cluster gets a gateway: the policy has one, and the stack knows of its key."""
    return _is_declared(bundle) and settings.gateway.keys is not None


def tunnel_of(bundle: Bundle, settings: StackSettings) -> dict[str, Any]:
    """The compiled tunnel, each peer with its public key; without those that have none yet.

    Raises:
        KeyError: if the policy gives this cluster no tunnel.
    """
    compiled = bundle.file(_COMPILED).manifest()
    keys = dict(settings.gateway.peers)
    known = [
        peer | {"publicKey": keys[peer["cluster"]]}
        for peer in compiled["peers"]
        if peer["cluster"] in keys
    ]
    return {**compiled, "peers": known}


def findings(bundle: Bundle, settings: StackSettings) -> tuple[str, ...]:
    """What keeps a tunnel from being complete; a sentence each, for people."""
    gateway, cluster = settings.gateway, bundle.cluster
    if not _is_declared(bundle):
        return (_undeclared(cluster),) if gateway.keys else ()
    names = [peer["cluster"] for peer in bundle.file(_COMPILED).manifest()["peers"]]
    if gateway.keys is None:
        return (_without_keys(cluster, names),) if names else ()
    known = dict(gateway.peers)
    return tuple(_unknown_peer(cluster, name) for name in names if name not in known)


def _is_declared(bundle: Bundle) -> bool:
    facts = bundle.facts
    return facts is not None and facts.gateway is not None and facts.tunnel is not None


def _undeclared(cluster: str) -> str:
    return (
        f"{cluster} gets no WireGuard gateway: hanzo-zt:gateway.keys is set, but the policy has no "
        f"gateway for {cluster}; its Mesh should give an endpoint and an address, and a Service "
        "should declare it"
    )


def _without_keys(cluster: str, peers: list[str]) -> str:
    return (
        f"{cluster} gets no WireGuard gateway: hanzo-zt:gateway.keys says no place of its private "
        f"key; until it does, {', '.join(peers)} cannot be reached from {cluster}"
    )


def _unknown_peer(cluster: str, peer: str) -> str:
    return (
        f"the tunnel between {cluster} and {peer} stays down: hanzo-zt:gateway.peers has no public "
        f"key of {peer}; write the one that its gateway shows there, and run `pulumi up` again"
    )
