"""What a certificate of a pod must be, and that anything else is seen."""

import base64
import socket
import ssl
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from lab.check.model import BrokenError, Check, Site
from lab.check.svid import chain_in, handshake, judged, same_roots, svids
from lab.mesh.authority import Authority, Svid, issue
from tests.authorities import issuing_cas
from tests.check.sites import POLICY, place, site
from zt.model import KeyType

MESH = POLICY.mesh
NOW = datetime.now(UTC)
IAM = "spiffe://hanzo.ai/hanzo-k8s/hanzo/iam"
FILES = issuing_cas("hanzo.ai", ["hanzo-k8s"])["hanzo-k8s"]
ROOT = x509.load_pem_x509_certificate(FILES["bundle.crt"].encode())


def issued(spiffe: str = IAM, lifetime: int = 3600, now: datetime = NOW) -> Svid:
    key = load_pem_private_key(FILES["tls.key"].encode(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    certificate = x509.load_pem_x509_certificate(FILES["tls.crt"].encode())
    return issue(Authority("hanzo.ai", certificate, key), spiffe, now, lifetime)


def chain(svid: Svid) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(svid.certificate + FILES["tls.crt"].encode())


def test_a_chain_to_the_root() -> None:
    seen = judged(chain(issued()), (ROOT,), IAM, MESH, NOW)
    assert IAM in seen
    assert "secp256r1, 60.2 min long, 60.0 min left, 1 between" in seen


@pytest.mark.parametrize(
    ("svid", "complaint"),
    [
        (issued(spiffe=IAM + "x"), "it is .*iamx, and should be"),
        (issued(lifetime=7200), "it lives from"),
        (issued(now=NOW - timedelta(hours=2)), "it lives from"),
    ],
)
def test_another_id_too_long_a_life_and_an_ended_one(svid: Svid, complaint: str) -> None:
    with pytest.raises(BrokenError, match=complaint):
        judged(chain(svid), (ROOT,), IAM, MESH, NOW)


def test_another_kind_of_key() -> None:
    mesh = replace(MESH, algorithms=replace(MESH.algorithms, key_type=KeyType.EC_P384))
    with pytest.raises(BrokenError, match="its key is secp256r1"):
        judged(chain(issued()), (ROOT,), IAM, mesh, NOW)


def test_a_chain_to_another_root_and_one_with_a_gap() -> None:
    other = issuing_cas("hanzo.ai", ["other"])["other"]["bundle.crt"]
    with pytest.raises(BrokenError, match="its chain is broken"):
        judged(chain(issued()), (x509.load_pem_x509_certificate(other.encode()),), IAM, MESH, NOW)
    with pytest.raises(BrokenError, match="its chain is broken"):
        judged(chain(issued())[:1], (ROOT,), IAM, MESH, NOW)
    with pytest.raises(BrokenError, match="no certificate"):
        judged([], (ROOT,), IAM, MESH, NOW)


def test_an_issuer_that_is_no_ca() -> None:
    leaf = chain(issued())[0]
    key = ec.generate_private_key(ec.SECP256R1())
    inner = Authority("hanzo.ai", leaf, key)
    forged = x509.load_pem_x509_certificate(issue(inner, IAM, NOW, 60).certificate)
    with pytest.raises(BrokenError):
        judged([forged, *chain(issued())], (ROOT,), IAM, MESH, NOW)


# --- What Envoy tells -----------------------------------------------------------------------------


def secret(svid: Svid, key: bytes = b"[redacted]") -> dict[str, Any]:
    def inline(content: bytes) -> dict[str, str]:
        return {"inline_bytes": base64.b64encode(content).decode()}

    pem = svid.certificate + FILES["tls.crt"].encode()
    held = {"certificate_chain": inline(pem), "private_key": inline(key)}
    return {"name": "default", "secret": {"name": "default", "tls_certificate": held}}


def test_the_chain_that_envoy_holds() -> None:
    svid = issued()
    dump = {"configs": [secret(svid), {"secret": {"validation_context": {}}}]}
    assert list(chain_in(dump)) == chain(svid)


def test_none_two_and_a_key_that_can_be_read() -> None:
    for configs in ([], [secret(issued()), secret(issued())]):
        with pytest.raises(BrokenError, match=f"{len(configs)} certificates"):
            chain_in({"configs": configs})
    with pytest.raises(BrokenError, match="private key"):
        chain_in({"configs": [secret(issued(), b"-----BEGIN")]})


# --- What is presented ----------------------------------------------------------------------------


def test_a_server_that_wants_a_certificate_shows_its_own_first(tmp_path: Path) -> None:
    svid = issued()
    (tmp_path / "chain.pem").write_bytes(svid.certificate + FILES["tls.crt"].encode())
    (tmp_path / "key.pem").write_bytes(svid.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "chain.pem", tmp_path / "key.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=FILES["bundle.crt"])
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        for _ in range(2):
            connection, _ = listening.accept()
            try:
                context.wrap_socket(connection, server_side=True).close()
            except OSError:
                connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    with listening:
        where = listening.getsockname()
        assert handshake(socket.create_connection(where, 5), (ROOT,)) == chain(svid)[0]
        other = issuing_cas("hanzo.ai", ["other"])["other"]["bundle.crt"]
        with pytest.raises(ssl.SSLCertVerificationError):
            handshake(
                socket.create_connection(where, 5),
                (x509.load_pem_x509_certificate(other.encode()),),
            )
        thread.join(5)


# --- The bundle -----------------------------------------------------------------------------------

BUNDLE = "/api/v1/namespaces/hanzo/configmaps/spire-bundle"


def bundle(*roots: str) -> dict[str, Any]:
    return {BUNDLE: {"data": {"bundle.pem": "".join(roots)}}}


def test_clusters_trust_the_same_roots_also_while_one_follows_another() -> None:
    other = issuing_cas("hanzo.ai", ["other"])["other"]["bundle.crt"]
    own = place("iam", "iam-1", "10.240.1.5")
    ours, again, theirs, both, turned, none = (
        site(lambda *_: {}, own, objects=bundle(*roots))[0]
        for roots in (
            *([FILES["bundle.crt"]], [FILES["bundle.crt"]], [other]),
            *([FILES["bundle.crt"], other], [other, FILES["bundle.crt"]], []),
        )
    )
    assert next(same_roots([ours, again])).held
    assert next(same_roots([both, turned])).held
    for differs in (theirs, both, none):
        assert not next(same_roots([ours, differs])).held
    assert [it.held for it in (roots_of(both), roots_of(none))] == [True, False]
    assert "no root" in roots_of(none).detail


def roots_of(cluster: Site) -> Check:
    found = next(iter(svids(cluster)))
    assert found.name == "roots"
    return found


def test_a_chain_may_lead_to_the_root_before_or_to_the_new_one() -> None:
    other = x509.load_pem_x509_certificate(
        issuing_cas("hanzo.ai", ["other"])["other"]["bundle.crt"].encode()
    )
    for roots in ((ROOT, other), (other, ROOT)):
        assert IAM in judged(chain(issued()), roots, IAM, MESH, NOW)
