"""Certificates of CAs, with the profile that the X.509-SVID specification demands of signers."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from zt.model import KeyType

_CURVES: dict[KeyType, ec.EllipticCurve] = {
    KeyType.EC_P256: ec.SECP256R1(),
    KeyType.EC_P384: ec.SECP384R1(),
}
_HASHES: dict[str, hashes.SHA256 | hashes.SHA384] = {
    "secp256r1": hashes.SHA256(),
    "secp384r1": hashes.SHA384(),
}
# Clocks of machines differ.
_BACKDATED = timedelta(minutes=5)
# Below a root are the issuing CA and SPIRE's; below an issuing CA only the latter.
_BELOW_ROOT, _BELOW_ISSUING = 2, 1


class BadCertificateError(Exception):
    """A CA that can't be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Authority:
    """A CA and its private key, which is in no representation of it."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @property
    def pem(self) -> str:
        """The certificate, PEM."""
        return self.certificate.public_bytes(Encoding.PEM).decode()

    def private_pem(self) -> str:
        """The private key, PKCS#8 in PEM: for KMS, and for nobody else."""
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@dataclass(frozen=True, slots=True)
class Profile:
    """What CAs are made with: the trust domain, their keys, and their life in seconds."""

    trust_domain: str
    key_type: KeyType
    lifetime: int


def make_root(name: str, profile: Profile, now: datetime) -> Authority:
    """A root, signed by itself."""
    return _make(name, profile, now, None, _BELOW_ROOT)


def make_issuing(name: str, profile: Profile, now: datetime, root: Authority) -> Authority:
    """An issuing CA below a root; it may name nobody outside the trust domain.

    Raises:
        BadCertificateError: if it would outlive the root.
    """
    end = now + timedelta(seconds=profile.lifetime)
    if end > root.certificate.not_valid_after_utc:
        raise BadCertificateError(
            f"an issuing CA until {end:%Y-%m-%d %H:%M} would outlive the root, which ends "
            f"{root.certificate.not_valid_after_utc:%Y-%m-%d %H:%M}: renew the root first"
        )
    return _make(name, profile, now, root, _BELOW_ISSUING)


def _make(
    name: str, profile: Profile, now: datetime, issuer: Authority | None, below: int
) -> Authority:
    key = ec.generate_private_key(_CURVES[profile.key_type])
    public = key.public_key()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{profile.trust_domain} {name}")])
    signer = issuer.key if issuer else key
    identity = x509.UniformResourceIdentifier(f"spiffe://{profile.trust_domain}")
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + timedelta(seconds=profile.lifetime))
        .add_extension(x509.BasicConstraints(ca=True, path_length=below), critical=True)
        .add_extension(_signs_certificates(), critical=True)
        .add_extension(x509.SubjectAlternativeName([identity]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()),
            critical=False,
        )
    )
    if issuer is not None:
        builder = builder.add_extension(_only_of(profile.trust_domain), critical=True)
    return Authority(builder.sign(signer, _HASHES[signer.curve.name]), key)


def _signs_certificates() -> x509.KeyUsage:
    return x509.KeyUsage(
        key_cert_sign=True,
        crl_sign=True,
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _only_of(trust_domain: str) -> x509.NameConstraints:
    """Whatever it signs, an ID of another trust domain is refused."""
    permitted = [x509.UniformResourceIdentifier(trust_domain)]
    return x509.NameConstraints(permitted_subtrees=permitted, excluded_subtrees=None)


# --- What is there already ------------------------------------------------------------------------


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of a certificate, hexadecimal: by which people compare it."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def load(certificate: str, key: str) -> Authority:
    """A CA from its PEM texts, the first certificate being its own.

    Raises:
        BadCertificateError: if they are no CA, or do not belong together.
    """
    loaded = load_certificate(certificate)
    try:
        private = load_pem_private_key(key.encode(), None)
    except (TypeError, ValueError):
        # What the error says may be of the key.
        raise BadCertificateError("the private key is not PEM, or has a passphrase") from None
    if not isinstance(private, ec.EllipticCurvePrivateKey):
        raise BadCertificateError("the private key is of no elliptic curve")
    if private.public_key() != loaded.public_key():
        raise BadCertificateError("the private key is not that of the certificate")
    return Authority(loaded, private)


def load_certificate(text: str) -> x509.Certificate:
    """The first certificate of a PEM text.

    Raises:
        BadCertificateError: if there is none.
    """
    try:
        return x509.load_pem_x509_certificate(text.encode())
    except ValueError as error:
        raise BadCertificateError(f"this is no certificate in PEM: {error}") from None


def check_chain(issuing: x509.Certificate, root: x509.Certificate) -> None:
    """See that a root has signed an issuing CA.

    Raises:
        BadCertificateError: if it has not.
    """
    try:
        issuing.verify_directly_issued_by(root)
    except Exception as error:  # noqa: BLE001 - cryptography raises its own, and two of Python's
        raise BadCertificateError(f"the root has not signed the issuing CA: {error!r}") from None
