import ssl
import stat
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from lab.mesh.authority import BUNDLE, KEY, SVID, Authority, authority, issue, svid_files
from lab.mesh.folders import publish, published

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ID = "spiffe://example.org/one/default/web"


@pytest.fixture(scope="module")
def root() -> Authority:
    return authority("example.org", NOW, 86400)


@pytest.fixture(scope="module")
def leaf(root: Authority) -> x509.Certificate:
    return x509.load_pem_x509_certificate(issue(root, ID, NOW, 3600).certificate)


def test_an_svid_has_its_spiffe_id_as_its_only_name(leaf: x509.Certificate) -> None:
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert list(names.value) == [x509.UniformResourceIdentifier(ID)]
    assert names.critical  # its subject is empty
    assert leaf.subject == x509.Name([])


def test_an_svid_may_sign_handshakes_and_nothing_else(leaf: x509.Certificate) -> None:
    usage = leaf.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.digital_signature
    assert not usage.value.key_cert_sign
    assert not usage.value.crl_sign
    constraints = leaf.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.value.ca is False


def test_an_svid_is_for_both_ends_of_tls(leaf: x509.Certificate) -> None:
    usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    assert set(usage.value) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}


def test_keys_are_on_p256(leaf: x509.Certificate) -> None:
    key = leaf.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert isinstance(key.curve, ec.SECP256R1)


def test_a_root_signs_leaves_only_and_names_its_trust_domain(root: Authority) -> None:
    extensions = root.certificate.extensions
    constraints = extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert constraints.value == x509.BasicConstraints(ca=True, path_length=0)
    usage = extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.key_cert_sign
    names = extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert list(names.value) == [x509.UniformResourceIdentifier("spiffe://example.org")]


def test_an_svid_chains_to_its_root_and_to_no_other(
    root: Authority, leaf: x509.Certificate
) -> None:
    leaf.verify_directly_issued_by(root.certificate)
    with pytest.raises(InvalidSignature):
        leaf.verify_directly_issued_by(authority("example.org", NOW, 86400).certificate)


def test_lifetimes_are_as_asked_and_may_be_over(root: Authority) -> None:
    fresh, expired = issue(root, ID, NOW, 20), issue(root, ID, NOW, -1)
    assert fresh.expires == NOW + timedelta(seconds=20)
    old = x509.load_pem_x509_certificate(expired.certificate)
    assert old.not_valid_before_utc < old.not_valid_after_utc < NOW


def test_published_files_are_their_owners_alone(root: Authority, tmp_path: Path) -> None:
    folder = tmp_path / "svid"
    publish(folder, svid_files(issue(root, ID, NOW, 60), root))
    assert {path.name for path in folder.iterdir() if path.name[0] != "."} == {*(SVID, KEY, BUNDLE)}
    for path in published(folder).iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(published(folder).stat().st_mode) == 0o700
    ssl.create_default_context().load_cert_chain(folder / SVID, folder / KEY)


def test_a_reader_never_sees_half_of_a_rotation(root: Authority, tmp_path: Path) -> None:
    folder = tmp_path / "svid"
    publish(folder, svid_files(issue(root, ID, NOW, 60), root))
    stop, seen, mixed = threading.Event(), set[bytes](), list[Path]()

    def read() -> None:
        while not stop.is_set():
            try:
                version = published(folder)
                certificate = (version / SVID).read_bytes()
                key = load_pem_private_key((version / KEY).read_bytes(), None)
            except FileNotFoundError:
                continue  # two rotations since it was looked up: gone as a whole, so look again
            if x509.load_pem_x509_certificate(certificate).public_key() != key.public_key():
                mixed.append(version)
            seen.add(certificate)

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(200):
        publish(folder, svid_files(issue(root, ID, NOW, 60), root))
        time.sleep(0.002)
    stop.set()
    reader.join()
    assert not mixed
    assert len(seen) > 10


def test_old_versions_are_removed(root: Authority, tmp_path: Path) -> None:
    folder = tmp_path / "svid"
    for _ in range(5):
        publish(folder, svid_files(issue(root, ID, NOW, 60), root))
    assert len(list(folder.glob("..[0-9]*"))) == 2
