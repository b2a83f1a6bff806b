"""Lifetimes of credentials and records: each must fit into that of what it stands on."""

from __future__ import annotations

from collections.abc import Iterator

from zt.check.facts import Facts
from zt.check.report import error, warning
from zt.model import Lifetimes
from zt.position import Finding
from zt.values import duration

_MINUTE, _HOUR, _DAY = 60, 3600, 86400

# SPIRE activates a new CA when a sixth of the old one's life, at most a week, is left; what would
# outlive the old CA is cut short without an error.
_SVIDS_IN_CA = 6
_LONGEST_SVID = 7 * _DAY
# Root, tier-1, SPIRE's CA: each is renewed at half of its life, so needs twice that of the next.
_CAS_IN_ROOT = 4
_LONGEST_AGENT_TOKEN = 900  # HIP-54, "Agent-to-Service Authentication"
_SHORTEST_AUDIT = 365 * _DAY  # HIP-54, "Audit Trail"
_LONGEST_WIREGUARD_KEY = 90 * _DAY  # HIP-54, "Certificate Management"
_LONGEST_JWKS_CACHE = _DAY


def check(facts: Facts) -> Iterator[Finding]:
    """SPIRE's arithmetic, which SPIRE does not check, and the specification's limits."""
    lifetimes = facts.mesh.lifetimes
    yield from _certificates(lifetimes)
    yield from _tokens(lifetimes)
    yield from _keys_and_records(lifetimes)


def _certificates(lifetimes: Lifetimes) -> Iterator[Finding]:
    where, svid, ca, root = lifetimes.where, lifetimes.svid, lifetimes.ca, lifetimes.root
    longest = min(ca // _SVIDS_IN_CA, _LONGEST_SVID)
    if svid > longest:
        message = (
            f"an SVID of {duration(svid)} does not fit into a CA of {duration(ca)}, and SPIRE "
            f"would shorten it: at most {duration(longest)} (a sixth of the CA's life, and 7d)"
        )
        yield error("svid-too-long", where.field("svid"), message)
    if ca >= root:
        message = (
            f"a CA of {duration(ca)} does not fit into a root of {duration(root)}: make it shorter"
        )
        yield error("ca-too-long", where.field("ca"), message)
    elif root < _CAS_IN_ROOT * ca:
        message = (
            f"a root of {duration(root)} leaves no room for the CA between it and SPIRE's, which "
            f"is renewed at half of its life as well: at least {duration(_CAS_IN_ROOT * ca)}"
        )
        yield error("root-too-short", where.field("root"), message)


def _tokens(lifetimes: Lifetimes) -> Iterator[Finding]:
    where, token, cache = lifetimes.where, lifetimes.agent_token, lifetimes.jwks_cache
    if token > _LONGEST_AGENT_TOKEN:
        message = f"agents' tokens of {duration(token)} live too long: at most 900s (HIP-54)"
        yield error("token-too-long", where.field("agentToken"), message)
    if cache > _LONGEST_JWKS_CACHE:
        message = f"a key that IAM withdraws would be trusted for {duration(cache)}: at most 1d"
        yield warning("jwks-cache-too-long", where.field("jwksCache"), message)
    elif cache < token:
        message = (
            f"keys are kept for {duration(cache)}, less than a token's {duration(token)}: while "
            "IAM is away, good tokens would be refused"
        )
        yield warning("jwks-cache-too-short", where.field("jwksCache"), message)


def _keys_and_records(lifetimes: Lifetimes) -> Iterator[Finding]:
    where, key, audit = lifetimes.where, lifetimes.wireguard_key, lifetimes.audit
    if key > _LONGEST_WIREGUARD_KEY:
        message = (
            f"WireGuard keys of {duration(key)} are older than HIP-54 lets them grow: at most 90d"
        )
        yield warning("wireguard-key-too-long", where.field("wireGuardKey"), message)
    if audit < _SHORTEST_AUDIT:
        message = (
            f"audit records are kept for {duration(audit)}: at least 365d, as the database "
            "refuses to drop younger ones"
        )
        yield error("audit-too-short", where.field("audit"), message)
