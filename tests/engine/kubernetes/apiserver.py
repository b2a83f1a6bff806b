"""As much of a Kubernetes API server as the client speaks to, over HTTPS, and how it can fail."""

import json
import ssl
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from engine.kubernetes.client import Kubernetes
from tests.engine.samples import Authority

Json = dict[str, Any]
Write = Callable[[bytes], None]


def pod(name: str, address: str | None, **others: Any) -> Json:  # noqa: ANN401
    """A pod as the API gives it."""
    metadata = {
        "name": name,
        "uid": f"uid-{name}",
        "namespace": "shop",
        "creationTimestamp": "2026-11-24T08:00:00Z",
        "resourceVersion": "1",
    }
    status: Json = {"phase": "Running"}
    if address:
        status |= {"podIP": address, "podIPs": [{"ip": address}]}
    spec = {"nodeName": "n1", "serviceAccountName": name.partition("-")[0]}
    return {
        "metadata": metadata | others.get("metadata", {}),
        "spec": spec | others.get("spec", {}),
        "status": status | others.get("status", {}),
    }


def status(code: int, message: str = "because") -> Json:
    return {"kind": "Status", "code": code, "message": message}


@dataclass
class Cluster:
    """What the server has. ``streams`` are the answers to watches, in turn; then none is given.

    Without a token it asks for none.
    """

    pods: list[Json] = field(default_factory=list)
    version: int = 100
    page: int = 500
    token: str = "token-1"
    streams: list[Callable[[Write], None]] = field(default_factory=list)
    config_maps: dict[str, Json] = field(default_factory=dict)
    objects: dict[str, Json] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    refuse: list[int] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def listed(self, query: dict[str, list[str]]) -> Json:
        start = int(query.get("continue", ["0"])[0])
        end = start + self.page
        metadata: Json = {"resourceVersion": str(self.version)}
        if end < len(self.pods):
            metadata["continue"] = str(end)
        return {"kind": "PodList", "metadata": metadata, "items": self.pods[start:end]}

    def replace(self, path: str, content: Json) -> Json:
        present = self.config_maps[path]["metadata"]["resourceVersion"]
        if content["metadata"]["resourceVersion"] != present:
            return status(409, "the object has been modified")
        content["metadata"]["resourceVersion"] = str(int(present) + 1)
        self.config_maps[path] = content
        return content

    def patch(self, path: str, operations: list[Json]) -> Json:
        found = json.loads(json.dumps(self.objects[path]))
        for item in operations:
            if not _set(found, item["path"], item["op"], item["value"]):
                return status(422, "the server rejected our request due to an error in our request")
        present = found["metadata"]["resourceVersion"]
        found["metadata"]["resourceVersion"] = str(int(present) + 1)
        self.objects[path] = found
        return dict(found)

    def apply(self, path: str, content: Json, manager: str) -> Json:
        """Server-side apply, as far as a Secret's data goes."""
        present = self.objects.get(path, {})
        owners = dict(present.get("owners", {}))
        data = dict(present.get("data", {}))
        for key, value in content["data"].items():
            if owners.get(key, manager) != manager and data[key] != value:
                return status(409, f"conflict with {owners[key]!r}: .data.{key}")
            owners.setdefault(key, manager)
        metadata = present.get("metadata", {}) | content["metadata"]
        made = content | {"metadata": metadata, "data": data | content["data"], "owners": owners}
        self.objects[path] = made
        return made


def _set(found: Any, pointer: str, operation: str, value: Any) -> bool:  # noqa: ANN401
    """Do one operation of a JSON patch; whether it could be done."""
    *way, last = pointer.removeprefix("/").split("/")
    for step in way:
        found = found[int(step) if isinstance(found, list) else step]
    if operation == "test":
        return bool(found.get(last) == value)
    found[last] = value
    return True


def event(kind: str, item: Json, version: int) -> bytes:
    metadata = item.get("metadata", {}) | {"resourceVersion": str(version)}
    return json.dumps({"type": kind, "object": item | {"metadata": metadata}}).encode() + b"\n"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    cluster: Cluster

    def log_message(self, *_: object) -> None:
        return

    def do_GET(self) -> None:
        self._serve(self._get)

    def do_PUT(self) -> None:
        self._serve(self._put)

    def do_PATCH(self) -> None:
        self._serve(self._patch)

    def _serve(self, answer: Callable[[], None]) -> None:
        cluster = self.cluster
        cluster.asked.append(self.path)
        if cluster.token and self.headers["Authorization"] != f"Bearer {cluster.token}":
            self._json(status(401, "Unauthorized"), 401)
        elif cluster.refuse and (code := cluster.refuse.pop(0)):
            self._json(status(code), code)
        else:
            answer()

    def _get(self) -> None:
        url = urlsplit(self.path)
        query = parse_qs(url.query)
        if "watch" in query:
            self._watch()
        elif url.path == "/api/v1/pods":
            self._json(self.cluster.listed(query))
        elif url.path in self.cluster.config_maps:
            self._json(self.cluster.config_maps[url.path])
        elif url.path in self.cluster.objects:
            self._json(self.cluster.objects[url.path])
        else:
            self._json(status(404, "not found"), 404)

    def _put(self) -> None:
        content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        made = self.cluster.replace(self.path, content)
        self._json(made, made.get("code", 200))

    def _patch(self) -> None:
        url, kind = urlsplit(self.path), self.headers["Content-Type"]
        content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if kind == "application/apply-patch+yaml":
            made = self.cluster.apply(url.path, content, parse_qs(url.query)["fieldManager"][0])
        elif kind == "application/json-patch+json":
            made = self.cluster.patch(url.path, content)
        else:
            made = status(415, "unsupported media type")
        self._json(made, made.get("code", 200))

    def _watch(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

        def write(data: bytes) -> None:
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            self.wfile.flush()

        try:
            if not self.cluster.streams:
                self.cluster.stop.wait(30)
                return
            self.cluster.streams.pop(0)(write)
            self.wfile.write(b"0\r\n\r\n")
        except (ConnectionError, BrokenPipeError):
            pass
        finally:
            self.close_connection = True

    def _json(self, content: Json, code: int = 200) -> None:
        body = json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        return


def _certificate(authority: Authority) -> bytes:
    """Certificate and key of a server on loopback, in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName([x509.DNSName("localhost")])
    certificate = (
        authority._builder(key.public_key())
        .subject_name(x509.Name([]))
        .add_extension(names, critical=True)
        .sign(authority._key, hashes.SHA256())
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return certificate.public_bytes(Encoding.PEM) + pem


@contextmanager
def serving(cluster: Cluster) -> Iterator[Kubernetes]:
    """A client of a server that serves a cluster."""
    authority = Authority()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "server.pem").write_bytes(_certificate(authority))
        (folder / "ca.crt").write_bytes(authority.bundle)
        (folder / "token").write_text(cluster.token + "\n")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "server.pem")
        handler = type("Handler", (_Handler,), {"cluster": cluster})
        server = _Server(("127.0.0.1", 0), handler)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield Kubernetes("localhost", server.server_address[1], folder)
        finally:
            cluster.stop.set()
            server.shutdown()
            thread.join()
            server.server_close()
