"""Keys and certificates of a control plane, and the kubeconfigs made of them.

A cluster has two CAs: the one that the API server trusts would otherwise open etcd to every client
of the API (Kubernetes, "PKI certificates and requirements").
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from lab.certificates import certificate_builder, key_usage
from lab.cluster.model import Cluster
from lab.mesh.folders import write_private

ADMINISTRATOR = "lab-administrator"
# As whom the API server asks kubelets for logs, and has them execute commands.
KUBELET_CLIENT = "kube-apiserver-kubelet-client"
# Who the load balancer is to the API.
BALANCER = "lab-balancer"
# A lab is thrown away long before.
_LIFETIME = timedelta(days=30)
_BACKDATED = timedelta(minutes=1)
_SERVICE = "kubernetes.default.svc.cluster.local"


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def certificate_pem(self) -> bytes:
        """The certificate, PEM."""
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        """The key, PEM."""
        return private_pem(self.key)


def write_keys(folder: Path, cluster: Cluster) -> Pair:
    """Write all that etcd, API server and controllers need; returns the CA of the API."""
    folder.mkdir(parents=True, mode=0o700)
    etcd, api = authority("etcd"), authority(f"{cluster.name} API")
    here = ("127.0.0.1", "localhost")
    pairs = {
        "etcd-ca": etcd,
        "etcd": issue(etcd, "etcd", names=here),
        "etcd-client": issue(etcd, "kube-apiserver"),
        "ca": api,
        "kubelet-client": issue(api, KUBELET_CLIENT),
        "apiserver": issue(api, "kube-apiserver", names=(*here, *_names(cluster))),
    }
    for name, pair in pairs.items():
        write_private(folder / f"{name}.crt", pair.certificate_pem)
        write_private(folder / f"{name}.key", pair.key_pem)
    tokens = ec.generate_private_key(ec.SECP256R1())
    write_private(folder / "tokens.key", private_pem(tokens))
    public = tokens.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    write_private(folder / "tokens.pub", public)
    return api


def authority(name: str) -> Pair:
    """Make a root CA."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _subject(f"lab {name} CA")
    builder = (
        _builder(subject, subject, key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return Pair(builder.sign(key, hashes.SHA256()), key)


def issue(root: Pair, user: str, group: str | None = None, names: Iterable[str] = ()) -> Pair:
    """Issue a certificate: to a client, its user and group; to a server, its names as well."""
    key = ec.generate_private_key(ec.SECP256R1())
    usages = [ExtendedKeyUsageOID.CLIENT_AUTH]
    alternatives = [_alternative(name) for name in names]
    if alternatives:
        usages.append(ExtendedKeyUsageOID.SERVER_AUTH)
    builder = (
        _builder(_subject(user, group), root.certificate.subject, key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(root.key.public_key()),
            critical=False,
        )
    )
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    return Pair(builder.sign(root.key, hashes.SHA256()), key)


def kubeconfig(root: Pair, client: Pair, cluster: str, server: str) -> bytes:
    """A kubeconfig that needs no other file."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": cluster,
                "cluster": {
                    "server": server,
                    "certificate-authority-data": _text(root.certificate_pem),
                },
            }
        ],
        "users": [
            {
                "name": ADMINISTRATOR,
                "user": {
                    "client-certificate-data": _text(client.certificate_pem),
                    "client-key-data": _text(client.key_pem),
                },
            }
        ],
        "contexts": [{"name": cluster, "context": {"cluster": cluster, "user": ADMINISTRATOR}}],
        "current-context": cluster,
    }
    return yaml.safe_dump(document, sort_keys=False).encode()


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A key in SEC 1 form: what every Kubernetes program reads, tokens' keys as well."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())


def _names(cluster: Cluster) -> tuple[str, ...]:
    """What pods and nodes call the API server."""
    parts = _SERVICE.split(".")
    services = [".".join(parts[:length]) for length in (1, 2, 3, len(parts))]
    return (*services, str(cluster.address), str(cluster.kubernetes))


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _subject(user: str, group: str | None = None) -> x509.Name:
    groups = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group)] if group else []
    return x509.Name([*groups, x509.NameAttribute(NameOID.COMMON_NAME, user)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return certificate_builder(subject, issuer, key.public_key(), now - _BACKDATED, now + _LIFETIME)


def _text(pem: bytes) -> str:
    return base64.b64encode(pem).decode()
