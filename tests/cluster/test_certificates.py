"""Who is trusted by whom in a control plane; and kubeconfigs that a client can use."""

from __future__ import annotations

from ipaddress import IPv4Network, ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from lab.cluster.certificates import Pair, authority, issue, kubeconfig, write_keys
from lab.cluster.client import client
from lab.cluster.model import Cluster

CLUSTER = Cluster(
    "hanzo-k8s", 2, services=IPv4Network("10.241.0.0/16"), pods=IPv4Network("10.240.0.0/16")
)


def load(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def is_trusted(root: x509.Certificate, certificate: x509.Certificate, name: str) -> bool:
    verifier = PolicyBuilder().store(Store([root])).build_server_verifier(x509.DNSName(name))
    try:
        verifier.verify(certificate, [])
    except VerificationError:
        return False
    return True


def test_the_api_server_goes_by_every_name_that_it_is_called(tmp_path: Path) -> None:
    write_keys(tmp_path / "pki", CLUSTER)
    certificate = load(tmp_path / "pki/apiserver.crt")
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(names.get_values_for_type(x509.IPAddress)) == {
        ip_address("127.0.0.1"),
        ip_address("192.0.2.20"),
        ip_address("10.241.0.1"),
    }
    root = load(tmp_path / "pki/ca.crt")
    for name in ("localhost", "kubernetes", "kubernetes.default.svc.cluster.local"):
        assert is_trusted(root, certificate, name)
    assert not is_trusted(root, certificate, "example.com")


def test_neither_ca_speaks_for_the_other(tmp_path: Path) -> None:
    write_keys(tmp_path / "pki", CLUSTER)
    api, etcd = load(tmp_path / "pki/ca.crt"), load(tmp_path / "pki/etcd-ca.crt")
    assert is_trusted(etcd, load(tmp_path / "pki/etcd.crt"), "localhost")
    assert not is_trusted(api, load(tmp_path / "pki/etcd.crt"), "localhost")
    assert not is_trusted(etcd, load(tmp_path / "pki/apiserver.crt"), "localhost")


def test_a_client_is_its_user_and_group_and_no_server() -> None:
    pair = issue(authority("API"), "somebody", "some:group")
    subject = pair.certificate.subject
    assert [a.value for a in subject.get_attributes_for_oid(NameOID.COMMON_NAME)] == ["somebody"]
    groups = subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    assert [a.value for a in groups] == ["some:group"]
    usage = pair.certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]


def test_only_certificates_are_for_others_to_read(tmp_path: Path) -> None:
    write_keys(tmp_path / "pki", CLUSTER)
    keys = list((tmp_path / "pki").glob("*.key"))
    assert len(keys) == 7
    assert {path.stat().st_mode & 0o777 for path in keys} == {0o600}


@pytest.fixture
def pair() -> tuple[Pair, Pair]:
    root = authority("API")
    return root, issue(root, "somebody")


def test_a_kubeconfig_needs_no_other_file(pair: tuple[Pair, Pair], tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    path.write_bytes(kubeconfig(*pair, "hanzo-k8s", "https://127.0.0.1:4711"))
    found = client(path)
    assert (found.host, found.port) == ("127.0.0.1", 4711)
    # As text it may begin with a byte that is zero, or not.
    known = [int(str(item["serialNumber"]), 16) for item in found.context.get_ca_certs()]
    assert known == [pair[0].certificate.serial_number]
    assert list(tmp_path.iterdir()) == [path]
