"""The development CA of a lab: one root, and an issuing CA below it for each cluster."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from lab.certificates import certificate_builder, key_usage
from lab.cluster.certificates import Pair, private_pem

# A lab is thrown away long before.
_LIFETIME = timedelta(days=30)
_BACKDATED = timedelta(minutes=1)


def development_cas(trust_domain: str, clusters: Iterable[str]) -> Mapping[str, dict[str, str]]:
    """The files of each cluster's Secret, PEM: ``tls.crt``, ``tls.key``, ``bundle.crt``.

    The root's key is forgotten at once.
    """
    root = _authority("root", trust_domain, None)
    return {cluster: _files(root, trust_domain, cluster) for cluster in clusters}


def _files(root: Pair, trust_domain: str, cluster: str) -> dict[str, str]:
    issuing = _authority(f"issuing CA of {cluster}", trust_domain, root)
    return {
        "tls.crt": issuing.certificate_pem.decode(),
        "tls.key": private_pem(issuing.key).decode(),
        "bundle.crt": root.certificate.public_bytes(Encoding.PEM).decode(),
    }


def _authority(name: str, trust_domain: str, issuer: Pair | None) -> Pair:
    """A CA of the trust domain (X.509-SVID, section 4); without an issuer, a root."""
    key = ec.generate_private_key(ec.SECP256R1())
    signer = issuer.key if issuer else key
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{trust_domain} {name}")])
    above = issuer.certificate.subject if issuer else subject
    now = datetime.now(UTC)
    uri = x509.UniformResourceIdentifier(f"spiffe://{trust_domain}")
    public = key.public_key()
    builder = (
        certificate_builder(subject, above, public, now - _BACKDATED, now + _LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectAlternativeName([uri]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
    )
    return Pair(builder.sign(signer, hashes.SHA256()), key)
