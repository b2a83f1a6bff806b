"""Certificates that an attacker has: forged ones, and those that our own CA would never issue.

The latter are signed with the cluster's own issuing CA, whose key the lab's KMS has: they stand for
SVIDs that were valid once, and for what would happen if SPIRE were made to issue what the policy
does not declare.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from lab.attack.identity import (
    EXPIRED,
    OTHER_CA,
    OTHER_CLUSTER,
    OTHER_DOMAIN,
    OTHER_DOMAIN_OTHER_CA,
    UNDECLARED,
)
from lab.cluster.model import LabError
from lab.kms.reach import issuing_ca
from lab.kms.server import Kms
from lab.mesh.authority import Authority, authority, issue
from zt.effective import Effective
from zt.spiffe import spiffe_id

_LIFETIME = 3600
_FOREIGN = "attacker.example"


@dataclass(frozen=True, slots=True)
class Material:
    """A certificate with those above it, and its key; both PEM."""

    certificate: str
    key: str

    def __repr__(self) -> str:
        return "Material(...)"

    @property
    def ends(self) -> datetime:
        """When the certificate expires."""
        return x509.load_pem_x509_certificate(self.certificate.encode()).not_valid_after_utc


@dataclass(frozen=True, slots=True)
class Issuer:
    """A CA, and the certificates between it and a root, PEM."""

    authority: Authority
    chain: str = ""

    def issue(self, spiffe: str, now: datetime, lifetime: int = _LIFETIME) -> Material:
        """An SVID; one that ended if its lifetime is negative."""
        svid = issue(self.authority, spiffe, now, lifetime)
        return Material(svid.certificate.decode() + self.chain, svid.key.decode())


def own_issuer(kms: Kms, cluster: str, trust_domain: str) -> Issuer:
    """The issuing CA of a cluster, below the root that signs."""
    files = issuing_ca(kms, cluster)
    return issuer_of(files["tls.crt"].encode(), files["tls.key"].encode(), trust_domain)


def issuer_of(certificate: bytes, key: bytes, trust_domain: str) -> Issuer:
    """A CA by its certificate and key, PEM.

    Raises:
        LabError: if the key is of another kind than SPIRE's.
    """
    private = load_pem_private_key(key, None)
    if not isinstance(private, ec.EllipticCurvePrivateKey):
        raise LabError("the issuing CA has no key of an elliptic curve")
    loaded = x509.load_pem_x509_certificate(certificate)
    return Issuer(Authority(trust_domain, loaded, private), certificate.decode())


def forged(
    effective: Effective, cluster: str, ours: Issuer, now: datetime
) -> Mapping[str, Material]:
    """All certificates that are not stolen, by the names that attacks have for them."""
    domain = effective.mesh.trust_domain
    theirs = Issuer(authority(domain, now, _LIFETIME))
    foreign = Issuer(authority(_FOREIGN, now, _LIFETIME))
    guest = spiffe_id(_FOREIGN, cluster, "default", "guest")
    nobody = spiffe_id(domain, cluster, "default", "undeclared")
    return {
        OTHER_DOMAIN: ours.issue(guest, now),
        OTHER_DOMAIN_OTHER_CA: foreign.issue(guest, now),
        UNDECLARED: ours.issue(nobody, now),
        **dict(_of_services(effective, cluster, (ours, theirs), now)),
    }


def _of_services(
    effective: Effective, cluster: str, issuers: tuple[Issuer, Issuer], now: datetime
) -> Iterator[tuple[str, Material]]:
    ours, theirs = issuers
    domain = effective.mesh.trust_domain
    elsewhere = next((c.name for c in effective.mesh.clusters if c.name != cluster), "elsewhere")
    for item in effective.in_cluster(cluster):
        service = item.service
        twin = spiffe_id(domain, elsewhere, service.namespace, service.account)
        yield f"{OTHER_CA}/{service.name}", theirs.issue(item.spiffe, now)
        yield f"{EXPIRED}/{service.name}", ours.issue(item.spiffe, now, -60)
        yield f"{OTHER_CLUSTER}/{service.name}", ours.issue(twin, now)
