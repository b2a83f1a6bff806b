"""What Secrets there should be: read from JSON, and new values for them."""

from __future__ import annotations

import json
import re
import secrets
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

KEY, CERTIFICATE = "tls.key", "tls.crt"
_ALPHABET = string.ascii_letters + string.digits
_LENGTH = 40
_BRACES = re.compile(r"\{([^{}]*)\}")
_VALIDITY = timedelta(days=3650)


class RecipeError(Exception):
    """What should be made can't be read; the message is one sentence."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """A Secret: keys of passwords, and texts by key in which ``{key}`` stands for a password.

    ``certificate`` are DNS names of a server that gets a key and a certificate.
    """

    namespace: str
    secret: str
    passwords: tuple[str, ...]
    texts: Mapping[str, str] = field(default_factory=dict)
    certificate: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        """Where the Secret is."""
        return f"/api/v1/namespaces/{self.namespace}/secrets/{self.secret}"

    @property
    def keys(self) -> frozenset[str]:
        """What it should have."""
        pair = (KEY, CERTIFICATE) if self.certificate else ()
        return frozenset((*self.passwords, *self.texts, *pair))


def password() -> str:
    """A new password: 238 bits, and no character that any syntax gives a meaning."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH))


def recipes(text: str) -> tuple[Recipe, ...]:
    """Read recipes from JSON.

    Raises:
        RecipeError: if they can't be read.
    """
    try:
        found = tuple(
            Recipe(
                item["namespace"],
                item["secret"],
                tuple(item["passwords"]),
                dict(item["texts"]),
                tuple(item["certificate"]),
            )
            for item in json.loads(text)
        )
    except (ValueError, TypeError, KeyError) as error:
        raise RecipeError(f"the recipes can't be read: {type(error).__name__} {error}") from None
    return found


def values_of(recipe: Recipe, have: Mapping[str, str], new: Callable[[], str]) -> dict[str, str]:
    """Everything that a Secret should have, around the passwords that it has."""
    words = {key: have.get(key) or new() for key in recipe.passwords}
    texts = {key: _composed(text, words) for key, text in recipe.texts.items()}
    return {**words, **texts, **(_pair(recipe.certificate) if recipe.certificate else {})}


def _composed(text: str, words: Mapping[str, str]) -> str:
    """The text with its passwords; other braces stay."""
    return _BRACES.sub(lambda found: words.get(found[1], found[0]), text)


def _pair(names: Sequence[str]) -> dict[str, str]:
    """A server's key, and its certificate signed by that key itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, names[0])])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + _VALIDITY)
        .add_extension(x509.SubjectAlternativeName(map(x509.DNSName, names)), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return {KEY: private.decode(), CERTIFICATE: certificate.public_bytes(Encoding.PEM).decode()}
