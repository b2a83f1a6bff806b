"""A key store whose issuing CAs are those that the clusters of a lab have in Secrets."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from gateway.ca import transcript
from gateway.ca.ceremony import BUNDLE, CERTIFICATE, KEY
from gateway.ca.certificates import check_chain, fingerprint, load, load_certificate
from gateway.ca.plan import Plan, Step
from gateway.ca.state import BEGAN, DONE, ISSUED, ROOT_MADE
from gateway.keys.directory import Directory
from lab.cluster.client import Client
from lab.cluster.model import LabError
from lab.up.furnish import DEVELOPMENT_CA
from zt.model import Mesh
from zt.wellknown import SPIRE_NAMESPACE

_SECRET = f"/api/v1/namespaces/{SPIRE_NAMESPACE}/secrets/{DEVELOPMENT_CA}"
_ISSUING = "spire/"
FIRST = "root-1"
_DAY = 86400


@dataclass(frozen=True, slots=True)
class Delivering(Directory):
    """A project in a folder; what is written for a cluster's SPIRE goes into its Secret as well."""

    clusters: Mapping[str, Client]

    def write(self, path: str, value: Mapping[str, str]) -> int:
        """See ``KeyStore``."""
        # `super()` knows no class that `slots` has made anew.
        number = Directory.write(self, path, value)
        if path.startswith(_ISSUING):
            deliver(self.clusters[path.removeprefix(_ISSUING)], value)
        return number


def deliver(api: Client, value: Mapping[str, str]) -> None:
    """Put an issuing CA where a cluster's SPIRE reads it."""
    data = {name: base64.b64encode(text.encode()).decode() for name, text in value.items()}
    metadata = {"name": DEVELOPMENT_CA, "namespace": SPIRE_NAMESPACE}
    api.apply(_SECRET, {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data})


def delivered(api: Client) -> Mapping[str, str]:
    """The issuing CA that a cluster's SPIRE reads.

    Raises:
        LabError: if it has none.
    """
    found = api.get(_SECRET)
    if found is None:
        raise LabError(f"there is no Secret {DEVELOPMENT_CA} in {SPIRE_NAMESPACE}")
    return {name: base64.b64decode(text).decode() for name, text in found["data"].items()}


def plan_of(path: Path, mesh: Mesh, step: Step, root: str) -> Plan:
    """A ceremony of the lab, for the present state of its transcript."""
    return Plan(
        name=f"{step}-{root}",
        step=step,
        trust_domain=mesh.trust_domain,
        root=root,
        clusters=tuple(cluster.name for cluster in mesh.clusters),
        key_type=mesh.algorithms.key_type,
        root_lifetime=mesh.lifetimes.root,
        issuing_lifetime=90 * _DAY,
        ca=mesh.lifetimes.ca,
        after=transcript.head(transcript.read(path)),
    )


def adopt(path: Path, mesh: Mesh, store: Delivering) -> None:
    """Begin a transcript with what the lab came up with, whose root's key nobody has.

    Raises:
        LabError: if a cluster has no CA.
        BadCertificateError: if it is not below its root.
    """
    plan, now = plan_of(path, mesh, Step.FOUND, FIRST), datetime.now(UTC)
    # As if long ago: everybody has that root.
    then = now - timedelta(days=1)
    values = {name: delivered(api) for name, api in store.clusters.items()}
    root = load_certificate(next(iter(values.values()))[BUNDLE])
    facts = {"digest": plan.digest(), "plan": asdict(plan), "confirmed": []}
    transcript.append(path, BEGAN, facts, then)
    bundle = next(iter(values.values()))[BUNDLE]
    made = {"root": FIRST, "version": 0, "certificate": bundle, "fingerprint": fingerprint(root)}
    transcript.append(path, ROOT_MADE, made, then)
    for cluster, value in values.items():
        issuing = load(value[CERTIFICATE], value[KEY])
        check_chain(issuing.certificate, root)
        issued = {
            "cluster": cluster,
            "root": FIRST,
            "certificate": issuing.pem,
            "fingerprint": fingerprint(issuing.certificate),
            "version": Directory.write(store, f"{_ISSUING}{cluster}", value),
            "roots": [fingerprint(root)],
        }
        transcript.append(path, ISSUED, issued, then)
    transcript.append(path, DONE, {"step": str(Step.FOUND), "root": FIRST}, then)
