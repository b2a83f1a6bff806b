import base64
import json
import os
import socketserver
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from lab.check import admin as check
from lab.cluster.model import LabError
from lab.faults import sidecars

Json = dict[str, Any]


class Admin(socketserver.ThreadingUnixStreamServer):
    """What an Envoy would answer, by path."""

    answers: Json


class Handler(BaseHTTPRequestHandler):
    server: Admin

    def do_GET(self) -> None:
        body = json.dumps(self.server.answers[self.path]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "here"

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def admin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Json]:
    monkeypatch.setattr(check, "SIDECAR_RUN", str(tmp_path))
    with Admin(str(tmp_path / "admin.sock"), Handler) as server:
        server.answers = {}
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.answers
        server.shutdown()


def certificate(serial: int) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "somebody")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), serial)
    builder = builder.not_valid_before(now).not_valid_after(now + timedelta(hours=1))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def dump(*serials: int) -> Json:
    chain = base64.b64encode(b"".join(map(certificate, serials))).decode()
    secret = {"tls_certificate": {"certificate_chain": {"inline_bytes": chain}}}
    bundle = {"validation_context": {"trusted_ca": {"inline_bytes": ""}}}
    return {"configs": [{"secret": bundle}, {"secret": secret}]}


def test_the_svid_and_its_issuer_are_read_from_what_the_sidecar_has(admin: Json) -> None:
    admin["/config_dump?resource=dynamic_active_secrets"] = dump(11, 22, 33)
    found = sidecars.svid(os.getpid())
    assert (found.serial, found.issuer) == (11, 22)
    assert found.expires > datetime.now(UTC)


def test_a_sidecar_without_an_svid_says_so(admin: Json) -> None:
    admin["/config_dump?resource=dynamic_active_secrets"] = {"configs": []}
    with pytest.raises(LabError, match="has no SVID"):
        sidecars.svid(os.getpid())


def test_one_that_does_not_answer_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "SIDECAR_RUN", str(tmp_path))
    with pytest.raises(LabError, match="does not answer"):
        sidecars.svid(os.getpid())
