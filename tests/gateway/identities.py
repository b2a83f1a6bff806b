"""SVIDs as SPIRE issues them, below a root, an issuing CA and a CA of SPIRE's own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from gateway.ca.certificates import Profile, make_issuing, make_root
from gateway.svid import Identity
from lab.certificates import certificate_builder, key_usage
from lab.mesh.authority import Authority, issue
from zt.model import KeyType

DOMAIN = "hanzo.ai"
NOW = datetime.now(UTC).replace(microsecond=0)
HOUR = 3600
_DAY = 24 * HOUR


@dataclass(frozen=True)
class Issuer:
    """A CA of SPIRE's; ``between`` are the certificates from it up to below the root."""

    own: Authority
    between: tuple[x509.Certificate, ...]
    root: x509.Certificate

    def identity(
        self,
        spiffe: str,
        lifetime: int = HOUR,
        now: datetime = NOW,
        authorities: Iterable[x509.Certificate] = (),
    ) -> Identity:
        """An SVID; its bundle is the root, and what is given besides."""
        made = issue(self.own, spiffe, now, lifetime)
        key = load_pem_private_key(made.key, None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        leaf = x509.load_pem_x509_certificate(made.certificate)
        return Identity(spiffe, (leaf, *self.between), key, frozenset({self.root, *authorities}))


def spire(key_type: KeyType = KeyType.EC_P256, now: datetime = NOW, lifetime: int = HOUR) -> Issuer:
    """SPIRE as keys of KMS make it; ``lifetime`` is of its own CA, in seconds."""
    root = make_root("root", Profile(DOMAIN, key_type, 10 * _DAY), now)
    issuing = make_issuing("issuing", Profile(DOMAIN, key_type, _DAY), now, root)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "SPIRE")])
    until = now + timedelta(seconds=lifetime)
    start = now - timedelta(minutes=5)
    own = (
        certificate_builder(name, issuing.certificate.subject, key.public_key(), start, until)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(key_usage(signs_certificates=True), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"spiffe://{DOMAIN}")]),
            critical=False,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(issuing.key, hashes.SHA256())
    )
    return Issuer(Authority(DOMAIN, own, key), (own, issuing.certificate), root.certificate)
