"""The SVID of each pod: whose it is, its key, its lifetime, and its chain to a common root."""

from __future__ import annotations

import base64
import json
import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from lab.check.admin import asked
from lab.check.model import BrokenError, Check, Json, Place, Site, all_of, each, pid_of
from lab.verify.network import within
from zt.inject.containers import ENVOY
from zt.model import KeyType, Mesh
from zt.wellknown import ALPN, BUNDLE_CONFIGMAP, BUNDLE_KEY, EVALUATOR_API

_CURVES = {KeyType.EC_P256: "secp256r1", KeyType.EC_P384: "secp384r1"}
# SPIRE dates what it issues back, for clocks that differ.
_BACKDATED = timedelta(seconds=30)
_PATIENCE = 5.0
SECRETS = "/config_dump?resource=dynamic_active_secrets"
_REDACTED = b"[redacted]"

Roots = tuple[x509.Certificate, ...]


def svids(site: Site) -> Iterator[Check]:
    """The roots that each namespace trusts, and the SVID of each pod that has one."""
    spaces = ((name, partial(_roots_seen, site, name)) for name in _bundles(site))
    yield from all_of("roots", spaces)
    holding = [place for place in site.places if place.has_sidecar]
    yield from each("SVID", holding, partial(_held, site))
    presenting = [p for p in site.places if p.is_served and _port(site, p) is not None]
    yield from each("SVID presented", presenting, partial(_presented, site))


def same_roots(sites: Sequence[Site]) -> Iterator[Check]:
    """Whether all clusters trust the same roots."""
    named = " and ".join(site.cluster for site in sites)
    yield from all_of("same roots", [(named, partial(_same, sites))])


def _same(sites: Sequence[Site]) -> str:
    trusted = (_roots(site, name) for site in sites for name in _bundles(site))
    found = {", ".join(sorted(map(_fingerprint, roots))) for roots in trusted}
    if len(found) != 1:
        raise BrokenError(f"not everywhere the same: {'; '.join(sorted(found))}")
    return found.pop()


# --- The roots ------------------------------------------------------------------------------------


def _bundles(site: Site) -> list[str]:
    """The namespaces that SPIRE publishes the bundle to."""
    return sorted({place.pod.namespace for place in site.places if place.has_sidecar})


def _roots(site: Site, namespace: str) -> Roots:
    """One; and while another comes or has come, the one before, until it ends."""
    path = f"/api/v1/namespaces/{namespace}/configmaps/{BUNDLE_CONFIGMAP}"
    found = site.api.get(path)
    text = found["data"].get(BUNDLE_KEY, "") if found else ""
    roots = x509.load_pem_x509_certificates(text.encode()) if text else []
    if not roots:
        raise BrokenError(f"{namespace} is given no root")
    return tuple(roots)


def _roots_seen(site: Site, namespace: str) -> str:
    return "; ".join(_root_seen(root) for root in _roots(site, namespace))


def _root_seen(root: x509.Certificate) -> str:
    if root.issuer != root.subject:
        raise BrokenError(f"{root.subject.rfc4514_string()} is no root")
    return f"{root.subject.rfc4514_string()}, {_fingerprint(root)}"


def _fingerprint(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(SHA256()).hex()[:16]


# --- Where certificates are seen ------------------------------------------------------------------


def _held(site: Site, place: Place) -> str:
    """What Envoy took from the Workload API, its chain included."""
    chain = chain_of(pid_of(place, ENVOY), place.name)
    roots = _roots(site, place.pod.namespace)
    return judged(chain, roots, place.declared.spiffe, site.effective.mesh, datetime.now(UTC))


def chain_of(process: int, name: str) -> tuple[x509.Certificate, ...]:
    """The SVID that a sidecar uses now, then the CAs above it; ``name`` is what its pod is called.

    Raises:
        LabError: if it has none.
        OSError: if it can't be reached.
    """
    return chain_in(json.loads(asked(process, name, SECRETS)))


def chain_in(dump: Json) -> tuple[x509.Certificate, ...]:
    """The only certificate with its chain in what Envoy tells of its secrets.

    Raises:
        BrokenError: if there is not one, or a private key can be read.
    """
    found = [
        secret["secret"]["tls_certificate"]
        for secret in dump.get("configs", ())
        if "tls_certificate" in secret.get("secret", {})
    ]
    if len(found) != 1:
        raise BrokenError(f"the sidecar has {len(found)} certificates")
    if _bytes(found[0].get("private_key", {})) not in (b"", _REDACTED):
        raise BrokenError("Envoy's admin interface shows a private key")
    return tuple(x509.load_pem_x509_certificates(_bytes(found[0]["certificate_chain"])))


def _bytes(source: Json) -> bytes:
    return base64.b64decode(source.get("inline_bytes", ""))


def _port(site: Site, place: Place) -> int | None:
    """A port behind which the mesh's TLS ends, in the sidecar or in the evaluator itself."""
    service = place.declared.service
    if service.name == site.effective.mesh.infrastructure.evaluator:
        return EVALUATOR_API
    return service.ports[0].port if place.has_sidecar and service.ports else None


def _presented(site: Site, place: Place) -> str:
    """What whoever connects is shown, before it shows anything itself."""
    port = _port(site, place)
    roots = _roots(site, place.pod.namespace)
    target = (place.address, port or 0)
    plain = within(site.outside(place), lambda: socket.create_connection(target, _PATIENCE))
    leaf = handshake(plain, roots)
    mesh = site.effective.mesh
    seen = judged_leaf(leaf, place.declared.spiffe, mesh, datetime.now(UTC))
    return f"port {port}: {seen}"


def handshake(plain: socket.socket, roots: Roots) -> x509.Certificate:
    """The certificate of a server whose chain leads to a root.

    Raises:
        OSError: if it does not, or there is no handshake.
    """
    trusted = b"".join(root.public_bytes(Encoding.PEM) for root in roots)
    context = ssl.create_default_context(cadata=trusted.decode())
    # The peer is who its URI says, not a host name.
    context.check_hostname = False
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols([ALPN])
    with plain, context.wrap_socket(plain) as secured:
        return x509.load_der_x509_certificate(secured.getpeercert(binary_form=True) or b"")


# --- What they must be ----------------------------------------------------------------------------


def judged(
    chain: Sequence[x509.Certificate],
    roots: Roots,
    spiffe: str,
    mesh: Mesh,
    now: datetime,
) -> str:
    """A chain that begins with a leaf and leads to a root; what it is, for people.

    Raises:
        BrokenError: if anything of it is not as the mesh has it.
    """
    if not chain:
        raise BrokenError("there is no certificate")
    for certificate, issuer in zip(chain, (*chain[1:], _above(chain[-1], roots)), strict=True):
        _issued(certificate, issuer, now)
    seen = judged_leaf(chain[0], spiffe, mesh, now)
    return f"{seen}, {len(chain) - 1} between it and the root"


def _above(certificate: x509.Certificate, roots: Roots) -> x509.Certificate:
    """The root that has issued it; any other if none has."""
    for root in roots:
        with suppress(ValueError, TypeError, InvalidSignature):
            certificate.verify_directly_issued_by(root)
            return root
    return roots[0]


def _issued(certificate: x509.Certificate, issuer: x509.Certificate, now: datetime) -> None:
    try:
        certificate.verify_directly_issued_by(issuer)
        constraints = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound) as error:
        raise BrokenError(f"its chain is broken: {error!r}") from None
    if not constraints.ca or not _is_valid(issuer, now):
        raise BrokenError(f"{issuer.subject.rfc4514_string()} may not issue now")


def judged_leaf(leaf: x509.Certificate, spiffe: str, mesh: Mesh, now: datetime) -> str:
    """The certificate of a workload by itself: ID, key, and lifetime.

    Raises:
        BrokenError: if any of them is not as the mesh has it.
    """
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    found = names.get_values_for_type(x509.UniformResourceIdentifier)
    if found != [spiffe]:
        raise BrokenError(f"it is {', '.join(found) or 'nobody'}, and should be {spiffe}")
    curve = _curve(leaf)
    if curve != _CURVES[mesh.algorithms.key_type]:
        raise BrokenError(f"its key is {curve}, and should be {mesh.algorithms.key_type}")
    lived = leaf.not_valid_after_utc - leaf.not_valid_before_utc
    if not _is_valid(leaf, now) or lived > timedelta(seconds=mesh.lifetimes.svid) + _BACKDATED:
        raise BrokenError(f"it lives from {leaf.not_valid_before_utc} for {lived}")
    left = leaf.not_valid_after_utc - now
    return f"{spiffe}, {curve}, {_minutes(lived)} long, {_minutes(left)} left"


def _is_valid(certificate: x509.Certificate, now: datetime) -> bool:
    return certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc


def _curve(certificate: x509.Certificate) -> str:
    key = certificate.public_key()
    return key.curve.name if isinstance(key, ec.EllipticCurvePublicKey) else type(key).__name__


def _minutes(span: timedelta) -> str:
    return f"{span.total_seconds() / 60:.1f} min"
