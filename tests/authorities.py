"""The CAs of a mesh as a ceremony makes them, for tests that need no KMS."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from gateway.ca.ceremony import BUNDLE, CERTIFICATE, KEY
from gateway.ca.certificates import Profile, make_issuing, make_root
from zt.model import KeyType

_DAY = 86400


def issuing_cas(trust_domain: str, clusters: Iterable[str]) -> Mapping[str, dict[str, str]]:
    """A root of its own for each call, and what KMS would have for each cluster's SPIRE, PEM."""
    now = datetime.now(UTC)
    root = make_root("root", Profile(trust_domain, KeyType.EC_P256, 365 * _DAY), now)
    profile = Profile(trust_domain, KeyType.EC_P256, 90 * _DAY)
    made = {name: make_issuing(f"issuing CA of {name}", profile, now, root) for name in clusters}
    return {
        name: {CERTIFICATE: ca.pem, KEY: ca.private_pem(), BUNDLE: root.pem}
        for name, ca in made.items()
    }
