"""Who the evaluator itself is, by its own SVID."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.x509 import SubjectAlternativeName, UniformResourceIdentifier

from zt.spiffe import SCHEME

_CERTIFICATE = "svid.pem"


class Own(NamedTuple):
    """The evaluator's own SVID: its SPIFFE ID, and from when until when it holds."""

    spiffe: str
    begins: datetime
    ends: datetime


def own_svid(folder: Path | None) -> Own | None:
    """The SVID in a folder; ``None`` where there is none."""
    if folder is None:
        return None
    try:
        certificate = x509.load_pem_x509_certificate((folder / _CERTIFICATE).read_bytes())
        names = certificate.extensions.get_extension_for_class(SubjectAlternativeName)
        uris = names.value.get_values_for_type(UniformResourceIdentifier)
    except (OSError, ValueError, x509.ExtensionNotFound):
        return None
    spiffe = next((name for name in uris if name.startswith(SCHEME)), None)
    if spiffe is None:
        return None
    return Own(spiffe, certificate.not_valid_before_utc, certificate.not_valid_after_utc)


def own_identity(folder: Path | None) -> str | None:
    """The SPIFFE ID of the SVID in a folder; ``None`` where there is none."""
    own = own_svid(folder)
    return own.spiffe if own else None


def trust_domain_of(spiffe: str) -> str:
    """The trust domain of a SPIFFE ID."""
    return spiffe.removeprefix(SCHEME).partition("/")[0]
