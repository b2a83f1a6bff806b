"""A real Envoy takes SVIDs below an issuing CA, and none of another trust domain."""

import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from gateway.ca.certificates import Authority, Profile, make_issuing, make_root
from lab.mesh.authority import Authority as Issuer
from lab.mesh.authority import issue
from zt.model import KeyType

_ENVOY = Path(sys.executable).with_name("envoy")
_TYPE = "type.googleapis.com/envoy.extensions."
_DAY = 86400


@pytest.fixture
def issuing(tmp_path: Path) -> Authority:
    now = datetime.now(UTC)
    root = make_root("root", Profile("hanzo.ai", KeyType.EC_P256, 365 * _DAY), now)
    (tmp_path / "root.pem").write_text(root.pem)
    return make_issuing("issuing CA", Profile("hanzo.ai", KeyType.EC_P256, 90 * _DAY), now, root)


def _files(folder: Path, name: str, issuing: Authority, spiffe: str) -> tuple[Path, Path]:
    above = Issuer("hanzo.ai", issuing.certificate, issuing.key)
    svid = issue(above, spiffe, datetime.now(UTC), 3600)
    chain, key = folder / f"{name}.pem", folder / f"{name}.key"
    chain.write_text(svid.certificate.decode() + issuing.pem)
    key.write_bytes(svid.key)
    return chain, key


@pytest.fixture
def application() -> Iterator[int]:
    """Says hello to everybody."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet(connection: socket.socket) -> None:
            with suppress(OSError), connection:
                connection.sendall(b"hello")
                connection.recv(1)  # until the proxy closes

        def accept() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    threading.Thread(target=greet, args=[connection], daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1]


@pytest.fixture
def envoy(tmp_path: Path, issuing: Authority, application: int) -> Iterator[int]:
    chain, key = _files(tmp_path, "server", issuing, "spiffe://hanzo.ai/hanzo-k8s/hanzo/iam")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    certificate = {"certificate_chain": _file(chain), "private_key": _file(key)}
    tls = {
        "@type": f"{_TYPE}transport_sockets.tls.v3.DownstreamTlsContext",
        "require_client_certificate": True,
        "common_tls_context": {
            "tls_certificates": [certificate],
            "validation_context": {"trusted_ca": _file(tmp_path / "root.pem")},
        },
    }
    proxy = {
        "@type": f"{_TYPE}filters.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": "application",
        "cluster": "application",
    }
    listener = {
        "address": _address(port),
        "filter_chains": [
            {
                "transport_socket": {"name": "tls", "typed_config": tls},
                "filters": [{"name": "proxy", "typed_config": proxy}],
            }
        ],
    }
    endpoint = {"endpoint": {"address": _address(application)}}
    cluster = {
        "name": "application",
        "type": "STATIC",
        "load_assignment": {
            "cluster_name": "application",
            "endpoints": [{"lb_endpoints": [endpoint]}],
        },
    }
    static = {"static_resources": {"listeners": [listener], "clusters": [cluster]}}
    (tmp_path / "envoy.yaml").write_text(yaml.safe_dump(static))
    words = ("-c", str(tmp_path / "envoy.yaml"), "--use-dynamic-base-id", "--concurrency", "1")
    with subprocess.Popen([str(_ENVOY), *words, "-l", "error"]) as process:
        try:
            _wait_for(port)
            yield port
        finally:
            process.terminate()


def _file(path: Path) -> dict[str, str]:
    return {"filename": str(path)}


def _address(port: int) -> dict[str, object]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", port)).close()
            return
        time.sleep(0.1)
    pytest.fail("Envoy does not listen")


def _hello(tmp_path: Path, port: int, chain: Path, key: Path) -> bytes:
    context = ssl.create_default_context(cafile=str(tmp_path / "root.pem"))
    context.check_hostname = False
    context.load_cert_chain(chain, key)
    plain = socket.create_connection(("127.0.0.1", port), timeout=10)
    with plain, context.wrap_socket(plain) as secured:
        return secured.recv(5)


def test_ids_of_the_trust_domain_are_taken_and_no_others(
    tmp_path: Path, issuing: Authority, envoy: int
) -> None:
    own = _files(tmp_path, "own", issuing, "spiffe://hanzo.ai/hanzo-k8s/hanzo/chat")
    assert _hello(tmp_path, envoy, *own) == b"hello"
    # The root would vouch for it: only the constraint on the issuing CA's names does not.
    foreign = _files(tmp_path, "foreign", issuing, "spiffe://attacker.example/a/b/chat")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        _hello(tmp_path, envoy, *foreign)
