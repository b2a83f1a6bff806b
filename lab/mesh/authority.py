"""The development CA: SVIDs as files, with the profile that the X.509-SVID specification demands.

Its root key lives in the supervisor's memory alone, and ends with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from lab.certificates import certificate_builder, key_usage

# Names of the files in an SVID's folder, as SPIRE's own helper writes them.
SVID = "svid.pem"
KEY = "svid_key.pem"
BUNDLE = "bundle.pem"

# Clocks of one machine agree, but Envoy compares whole seconds.
_BACKDATED = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class Authority:
    """A root CA of a trust domain."""

    trust_domain: str
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def bundle(self) -> bytes:
        """The trust bundle, PEM."""
        return self.certificate.public_bytes(Encoding.PEM)


@dataclass(frozen=True, slots=True)
class Svid:
    """An X.509-SVID and its key, PEM."""

    certificate: bytes
    key: bytes
    expires: datetime


def authority(trust_domain: str, now: datetime, lifetime: int) -> Authority:
    """Make a root CA that lives for so many seconds (X.509-SVID, section 4: signing)."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{trust_domain} development CA")])
    end = now + timedelta(seconds=lifetime)
    certificate = (
        certificate_builder(name, name, key.public_key(), now - _BACKDATED, end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(key_usage(signs_certificates=True), critical=True)
        .add_extension(_identity(f"spiffe://{trust_domain}"), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(trust_domain, certificate, key)


def issue(root: Authority, spiffe: str, now: datetime, lifetime: int) -> Svid:
    """Issue an SVID that lives for so many seconds (X.509-SVID, sections 2 and 4: leaf).

    A negative lifetime gives one that has expired.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    expires = now + timedelta(seconds=lifetime)
    start = min(now, expires - timedelta(seconds=1))
    certificate = (
        certificate_builder(
            x509.Name([]), root.certificate.subject, key.public_key(), start - _BACKDATED, expires
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage(signs_certificates=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage(
                [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
            ),
            critical=False,
        )
        # Critical, because the subject is empty (RFC 5280, section 4.2.1.6).
        .add_extension(_identity(spiffe), critical=True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(root.key.public_key()),
            critical=False,
        )
        .sign(root.key, hashes.SHA256())
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return Svid(certificate.public_bytes(Encoding.PEM), pem, expires)


def svid_files(svid: Svid, root: Authority) -> Mapping[str, bytes]:
    """The files of an SVID's folder."""
    return {SVID: svid.certificate, KEY: svid.key, BUNDLE: root.bundle}


def _identity(spiffe: str) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([x509.UniformResourceIdentifier(spiffe)])
