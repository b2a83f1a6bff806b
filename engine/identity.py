"""Who the evaluator itself is, by its own SVID."""

from __future__ import annotations

from pathlib import Path

from cryptography import x509
from cryptography.x509 import SubjectAlternativeName, UniformResourceIdentifier

from zt.spiffe import SCHEME

_CERTIFICATE = "svid.pem"


def own_identity(folder: Path | None) -> str | None:
    """The SPIFFE ID of the SVID in a folder; ``None`` where there is none."""
    if folder is None:
        return None
    try:
        pem = (folder / _CERTIFICATE).read_bytes()
        names = (
            x509.load_pem_x509_certificate(pem)
            .extensions.get_extension_for_class(SubjectAlternativeName)
            .value.get_values_for_type(UniformResourceIdentifier)
        )
    except (OSError, ValueError, x509.ExtensionNotFound):
        return None
    return next((name for name in names if name.startswith(SCHEME)), None)


def trust_domain_of(spiffe: str) -> str:
    """The trust domain of a SPIFFE ID."""
    return spiffe.removeprefix(SCHEME).partition("/")[0]
