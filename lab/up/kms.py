"""The KMS of a lab is opened, its first root is made, and gateways learn each other's public keys.

As people do it in production (docs/deploy.md): a ceremony makes the CAs before the stacks come up;
those come up without the other's public key, which is read from KMS, written into the stack's
configuration, and comes with the next ``up``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hvac.exceptions import InvalidPath

from gateway.ca.plan import Step
from lab.ca.ceremonies import Ceremonies, transcript_of
from lab.cluster.model import LabError, Layout
from lab.kms.reach import near
from lab.kms.server import Kms, client, kms_of, open_up
from lab.kms.setup import GATEWAYS, Cluster, set_up
from lab.mesh.folders import write_private
from zt.model import Policy

Report = Callable[[str], None]
Json = dict[str, Any]

_PATIENCE, _PAUSE = 120.0, 1.0
_FILE = "peers.json"


def open_kms(layout: Layout, policy: Policy, clusters: Sequence[str]) -> Kms:
    """Open the lab's KMS and let the pods of its clusters in; it is reached from here as returned.

    Raises:
        LabError: if it does not answer.
    """
    kms = near(layout)
    open_up(kms)
    set_up(client(kms), tuple(_cluster(layout, policy, name) for name in clusters))
    return kms


def _cluster(layout: Layout, policy: Policy, name: str) -> Cluster:
    gateway = policy.mesh.infrastructure.gateway
    found = (item for item in policy.services if (item.cluster, item.name) == (name, gateway))
    service = next(found, None)
    if service is None:
        raise LabError(f"the policies have no gateway in {name}")
    key = (layout.keys(name) / "tokens.pub").read_text(encoding="ascii")
    return Cluster(name, key, (service.namespace, service.account))


def make_root(layout: Layout, kms: Kms, policy: Policy, report: Report) -> str:
    """The first root, by a ceremony that makes the clusters' issuing CAs as well; PEM.

    Raises:
        LabError: if it can't be made.
    """
    ceremonies = Ceremonies(kms, transcript_of(layout), policy.mesh, report)
    state = ceremonies.hold(Step.FOUND, ceremonies.next_root)
    return "".join(root.certificate for root in state.published)


# --- What the stacks are told ---------------------------------------------------------------------


def remember(layout: Layout, peers: Mapping[str, str]) -> None:
    """Note the public keys of the gateways, by cluster, for whoever brings the stacks up."""
    layout.engine.mkdir(parents=True, mode=0o700, exist_ok=True)
    write_private(layout.engine / _FILE, json.dumps(peers, indent=1).encode())


def configured(layout: Layout, cluster: str) -> Json:
    """What the lab lays over a stack: the CA of its own KMS, and the keys of the other gateways."""
    authority = {"authority": kms_of(layout).authority.read_text(encoding="ascii")}
    path = layout.engine / _FILE
    known: dict[str, str] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    peers = {name: public for name, public in known.items() if name != cluster}
    return {
        "gateway": {"keys": authority, "peers": peers},
        "spire": {"authority": {"keySource": authority}},
    }


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
