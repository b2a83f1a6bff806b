"""A gateway's word for what it offers: a signature by its X.509-SVID, made for whoever asks.

The asker sends a number that nobody could foresee, and the signature covers it: an offer that was
once true can't be told again. What is signed begins as TLS 1.3 has it (RFC 8446, 4.4.3), so that no
signature of the same key that was made for another purpose is good for this one, nor the reverse.
"""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import crypto

from gateway.svid import HASHES, Identity

HEADER = "ZT-Attestation"
_PURPOSE = b" " * 64 + b"hanzo-zt, offer of a tunnel's keys, 1\0"
_NONCE = re.compile(r"[0-9a-f]{64}")
_MOST_CERTIFICATES = 8


class UnattestedError(Exception):
    """Nobody who may has vouched for an offer; the message is why."""


@dataclass(frozen=True)
class Claim:
    """What a cluster's gateway tells to whoever sent ``nonce``; ``offer`` is as it was sent."""

    cluster: str
    nonce: str
    offer: str

    def signed(self) -> bytes:
        """What the signature covers. Neither of the first two can have a line's end in it."""
        return _PURPOSE + f"{self.cluster}\n{self.nonce}\n{self.offer}".encode()


def new_nonce() -> str:
    """A number that nobody can foresee: 256 bits, hexadecimal."""
    return secrets.token_hex(32)


def is_nonce(text: str) -> bool:
    """Whether it is one: nothing else is ever signed."""
    return _NONCE.fullmatch(text) is not None


def attest(identity: Identity, claim: Claim) -> str:
    """Vouch for a claim: signature, SVID and the CAs between it and the root, for ``HEADER``."""
    signature = identity.key.sign(claim.signed(), ec.ECDSA(HASHES[identity.key.curve.name]))
    chain = (certificate.public_bytes(Encoding.DER) for certificate in identity.chain)
    return " ".join(base64.b64encode(part).decode() for part in (signature, *chain))


def check(
    attestation: str | None,
    claim: Claim,
    spiffe: str | None,
    own: Identity | None,
    now: datetime,
) -> None:
    """See that ``spiffe`` vouches for a claim, by an SVID below one of the authorities of ``own``.

    Raises:
        UnattestedError: if it does not.
    """
    if own is None or own.chain[0].not_valid_after_utc <= now:
        raise UnattestedError("this gateway has no SVID now, and so no trust bundle")
    if attestation is None:
        raise UnattestedError("it sends no attestation: it has no SVID now, or an older release")
    if spiffe is None:
        raise UnattestedError("the policy names no gateway of that cluster")
    signature, leaf, *between = _parts(attestation)
    _check_chain(leaf, between, own.authorities, now)
    _check_leaf(leaf, spiffe)
    _check_signature(leaf, signature, claim)


def _parts(attestation: str) -> tuple[bytes, x509.Certificate, *tuple[x509.Certificate, ...]]:
    parts = attestation.split(" ")
    if not 1 < len(parts) <= 1 + _MOST_CERTIFICATES:
        raise UnattestedError("its attestation is no signature with a chain")
    try:
        signature, *chain = map(_decoded, parts)
        leaf, *between = map(x509.load_der_x509_certificate, chain)
    except (ValueError, x509.InvalidVersion):
        raise UnattestedError("its attestation is no signature with a chain") from None
    return signature, leaf, *between


def _decoded(part: str) -> bytes:
    """From the one way to write it in base64."""
    found = base64.b64decode(part, validate=True)
    if base64.b64encode(found).decode() != part:
        raise ValueError("bits that mean nothing")
    return found


def _check_chain(
    leaf: x509.Certificate,
    between: Collection[x509.Certificate],
    authorities: Collection[x509.Certificate],
    now: datetime,
) -> None:
    """By OpenSSL, as TLS does it: cryptography's own verifier takes no constraints on URIs."""
    store = crypto.X509Store()
    for authority in authorities:
        store.add_cert(crypto.X509.from_cryptography(authority))
    store.set_time(now)
    try:
        first, *middle = map(crypto.X509.from_cryptography, (leaf, *between))
        crypto.X509StoreContext(store, first, middle).verify_certificate()
    except crypto.X509StoreContextError as error:
        raise UnattestedError(f"its certificate is not good here: {error}") from None
    except crypto.Error:
        # OpenSSL is stricter with what it reads.
        raise UnattestedError("its attestation is no signature with a chain") from None


def _check_leaf(leaf: x509.Certificate, spiffe: str) -> None:
    """What X.509-SVID, section 4, demands of a leaf; and that it is the one that is expected."""
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        usage = leaf.extensions.get_extension_for_class(x509.KeyUsage).value
        basic = leaf.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        raise UnattestedError("its certificate is no X.509-SVID") from None
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if basic.ca or usage.key_cert_sign or usage.crl_sign or not usage.digital_signature:
        raise UnattestedError("its certificate is no X.509-SVID of a workload")
    if uris != [spiffe]:
        raise UnattestedError(f"it is {' and '.join(uris) or 'nobody'}, and should be {spiffe}")


def _check_signature(leaf: x509.Certificate, signature: bytes, claim: Claim) -> None:
    key = leaf.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in HASHES:
        raise UnattestedError("its key is of no curve that is used here")
    try:
        key.verify(signature, claim.signed(), ec.ECDSA(HASHES[key.curve.name]))
    except InvalidSignature:
        raise UnattestedError("its signature is not of this offer and this question") from None
