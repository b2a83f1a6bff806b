"""The CAs of a lab: one root above, an issuing CA for each cluster below."""

import base64

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from lab.up.authority import development_cas
from lab.up.furnish import authorities

CAS = development_cas("hanzo.ai", ["hanzo-k8s", "lux-k8s"])


def certificate(cluster: str, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(CAS[cluster][name].encode())


def test_both_clusters_chain_to_one_root() -> None:
    root = certificate("hanzo-k8s", "bundle.crt")
    assert certificate("lux-k8s", "bundle.crt") == root
    for cluster in CAS:
        issuing = certificate(cluster, "tls.crt")
        issuing.verify_directly_issued_by(root)
        key = load_pem_private_key(CAS[cluster]["tls.key"].encode(), None)
        assert key.public_key() == issuing.public_key()
    assert certificate("lux-k8s", "tls.crt") != certificate("hanzo-k8s", "tls.crt")


def test_the_roots_key_is_in_no_file() -> None:
    root = certificate("hanzo-k8s", "bundle.crt").public_key()
    keys = [load_pem_private_key(files["tls.key"].encode(), None) for files in CAS.values()]
    assert root not in [key.public_key() for key in keys]


def test_nodes_elsewhere_get_the_root_and_no_key() -> None:
    secret, nodes = authorities(CAS["lux-k8s"])
    assert set(secret["data"]) == {"tls.crt", "tls.key", "bundle.crt"}
    assert base64.b64decode(secret["data"]["tls.crt"]).decode() == CAS["lux-k8s"]["tls.crt"]
    assert nodes["data"] == {"ca.crt": CAS["lux-k8s"]["bundle.crt"]}
