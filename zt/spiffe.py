"""SPIFFE IDs of the mesh: ``spiffe://<trust domain>/<cluster>/<namespace>/<service account>``.

The schema is HIP-54, "SPIFFE ID Format". A pattern is an ID in which ``*`` may stand for one whole
path segment.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from zt.nearest import shown

SCHEME = "spiffe://"
SEGMENTS = 3
SHAPE = "spiffe://<trust domain>/<cluster>/<namespace>/<service account>"

_TRUST_DOMAIN = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")
_SEGMENT = re.compile(r"\*|[a-z0-9]([a-z0-9.-]*[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class SpiffePattern:
    """A SPIFFE ID, or one with ``*`` for whole segments."""

    trust_domain: str
    cluster: str
    namespace: str
    service_account: str

    def __str__(self) -> str:
        return spiffe_id(self.trust_domain, self.cluster, self.namespace, self.service_account)

    @property
    def segments(self) -> tuple[str, str, str]:
        """Cluster, namespace and service account."""
        return self.cluster, self.namespace, self.service_account

    @property
    def is_exact(self) -> bool:
        """Whether it names one identity."""
        return "*" not in self.segments

    def matches(self, other: SpiffePattern) -> bool:
        """Whether every identity that ``other`` names is one of ours."""
        return self.trust_domain == other.trust_domain and all(
            mine in ("*", theirs)
            for mine, theirs in zip(self.segments, other.segments, strict=True)
        )


def spiffe_id(trust_domain: str, cluster: str, namespace: str, service_account: str) -> str:
    """Write an ID, by HIP-54."""
    return f"{SCHEME}{trust_domain}/{cluster}/{namespace}/{service_account}"


def parse_pattern(text: str) -> SpiffePattern:
    """Read an ID or a pattern.

    Raises:
        ValueError: with what is wrong and what it should have been.
    """
    if not text.startswith(SCHEME):
        raise ValueError(f"{shown(text)} is not a SPIFFE ID: it should start with {SCHEME!r}")
    trust_domain, *path = text.removeprefix(SCHEME).split("/")
    if not _TRUST_DOMAIN.fullmatch(trust_domain):
        raise ValueError(
            f"{shown(text)}: {shown(trust_domain)} is not a trust domain such as 'hanzo.ai'"
        )
    _reject_kubernetes_form(text, trust_domain, path)
    if len(path) != SEGMENTS:
        raise ValueError(
            f"{shown(text)} has {len(path)} path segments instead of {SEGMENTS}: it should be "
            f"{SHAPE}"
        )
    for segment in path:
        _check_segment(text, segment)
    return SpiffePattern(trust_domain, *path)


def _reject_kubernetes_form(text: str, trust_domain: str, path: list[str]) -> None:
    """``ns/<namespace>/sa/<account>`` is other meshes' form; it does not name the cluster."""
    if len(path) == SEGMENTS + 1 and path[0] == "ns" and path[2] == "sa":
        wanted = spiffe_id(trust_domain, "<cluster>", path[1], path[3])
        raise ValueError(f"{shown(text)} does not name a cluster: it should be {shown(wanted)}")


def _check_segment(text: str, segment: str) -> None:
    if _SEGMENT.fullmatch(segment):
        return
    if "*" in segment:
        raise ValueError(
            f"{shown(text)}: '*' may stand for one whole path segment, not for {shown(segment)}"
        )
    raise ValueError(
        f"{shown(text)}: segment {shown(segment)} should be lower-case letters, digits, '-' and '.'"
    )
