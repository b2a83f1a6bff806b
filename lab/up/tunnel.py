"""The tunnel of a lab: its KMS is opened, its gateways make keys there, and learn each other's.

As people do it in production (docs/deploy.md): both stacks come up without the other's public key,
which is read from KMS, written into the stack's configuration, and comes with the next ``up``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from hvac.exceptions import InvalidPath

from lab.cluster.forward import forward
from lab.cluster.model import LabError, Layout
from lab.kms.server import Kms, client, kms_of, open_up
from lab.kms.setup import GATEWAYS, Cluster, set_up
from lab.mesh.folders import write_private
from zt.model import Policy

Report = Callable[[str], None]
Json = dict[str, Any]

_PATIENCE, _PAUSE = 120.0, 1.0
_FILE = "gateways.json"


def open_kms(layout: Layout, policy: Policy, clusters: Sequence[str]) -> Kms:
    """Open the lab's KMS and let the pods of its clusters in; it is reached from here as returned.

    Raises:
        LabError: if it does not answer.
    """
    kms = kms_of(layout)
    near = replace(kms, address="127.0.0.1", port=forward(layout.internet, kms.address, kms.port))
    open_up(near)
    set_up(client(near), tuple(_cluster(layout, policy, name) for name in clusters))
    return near


def _cluster(layout: Layout, policy: Policy, name: str) -> Cluster:
    gateway = policy.mesh.infrastructure.gateway
    found = (item for item in policy.services if (item.cluster, item.name) == (name, gateway))
    service = next(found, None)
    if service is None:
        raise LabError(f"the policies have no gateway in {name}")
    key = (layout.keys(name) / "tokens.pub").read_text(encoding="ascii")
    return Cluster(name, key, (service.namespace, service.account))


def configure(layout: Layout, clusters: Sequence[str], peers: Mapping[str, str]) -> None:
    """Write what the lab lays over its stacks' gateways: public keys are of those that have one."""
    kms = kms_of(layout)
    found = {cluster: _gateway(kms, cluster, peers) for cluster in clusters}
    layout.engine.mkdir(parents=True, mode=0o700, exist_ok=True)
    write_private(layout.engine / _FILE, json.dumps(found, indent=1).encode())


def configured(layout: Layout, cluster: str) -> Json:
    """What the lab lays over the gateway of a stack; nothing in a lab without a tunnel."""
    path = layout.engine / _FILE
    found: Mapping[str, Json] = (
        json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    )
    return found.get(cluster, {})


def _gateway(kms: Kms, cluster: str, peers: Mapping[str, str]) -> Json:
    keys = {
        "address": kms.url,
        "project": GATEWAYS,
        "path": cluster,
        "auth": Cluster(cluster, "", ("", "")).mount,
        "authority": kms.authority.read_text(encoding="ascii"),
    }
    others = {name: public for name, public in peers.items() if name != cluster}
    # Not every kernel has WireGuard.
    return {"keys": keys, "userspace": True, "peers": others}


def public_keys(kms: Kms, clusters: Sequence[str], report: Report) -> Mapping[str, str]:
    """The public keys of all gateways, once each has made its own.

    Raises:
        LabError: if one does not.
    """
    vault, deadline = client(kms), time.monotonic() + _PATIENCE
    while True:
        found = {name: key for name in clusters if (key := _public(vault, name))}
        if len(found) == len(clusters):
            return found
        if time.monotonic() > deadline:
            lacking = ", ".join(sorted(set(clusters) - found.keys()))
            raise LabError(f"the gateway of {lacking} has stored no key after {_PATIENCE:.0f} s")
        report("waiting for the gateways' keys")
        time.sleep(_PAUSE)


def _public(vault: Any, cluster: str) -> str:  # noqa: ANN401 - hvac tells no types
    """What a gateway says of its key; empty where there is none yet."""
    try:
        found = vault.secrets.kv.v2.read_secret_metadata(cluster, mount_point=GATEWAYS)
    except InvalidPath:
        return ""
    return str((found["data"]["custom_metadata"] or {}).get("publicKey", ""))
