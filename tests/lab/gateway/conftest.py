"""A real Vault on a loopback address, set up as the lab's, and pods' tokens for it."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.keys import KeyStore, open_store
from lab.kms.server import Kms, client, open_up, prepare, program
from lab.kms.setup import Cluster, set_up
from lab.tools.build import obtainable

CLUSTER = "hanzo-k8s"
GATEWAY = ("hanzo", "wg-gateway")


@dataclass(frozen=True)
class Site:
    """A Vault, and who signs tokens of the cluster's pods."""

    kms: Kms
    tokens: ec.EllipticCurvePrivateKey
    folder: Path

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        """The server's process; whether it is open is another matter."""
        made = program(self.kms)
        with subprocess.Popen(
            made.command,
            env=dict(made.environment),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
        ) as child:
            try:
                yield child
            finally:
                child.kill()

    def begin(self) -> None:
        """What people do with a new Vault."""
        open_up(self.kms)
        public = self.tokens.public_key().public_bytes(
            Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
        )
        set_up(self.vault, (Cluster(CLUSTER, public.decode(), GATEWAY),))

    @property
    def vault(self) -> Any:  # noqa: ANN401 - hvac tells no types
        return client(self.kms)

    def token(self, account: str = ":".join(GATEWAY), audience: str = "kms") -> Path:
        """What the kubelet would put into a pod of that account."""
        file = self.folder / f"token-{account.replace(':', '-')}-{audience}"
        file.write_text(signed(self.tokens, f"system:serviceaccount:{account}", audience))
        return file

    def store(
        self,
        project: str = "zt-wireguard",
        token: Path | None = None,
        *,
        auth: str = f"jwt-{CLUSTER}",
        authority: str | None = None,
        patience: float = 1.0,
    ) -> KeyStore:
        """What a gateway opens, unless a test says otherwise."""
        return open_store(
            self.kms.url,
            project,
            token or self.token(),
            auth=auth,
            authority=self.kms.authority.read_text() if authority is None else authority,
            patience=patience,
        )


def signed(key: ec.EllipticCurvePrivateKey, subject: str, audience: str) -> str:
    """A token as the API server signs them: ES256."""
    now = int(time.time())
    claims = {"iss": "kubernetes", "sub": subject, "aud": [audience], "iat": now, "exp": now + 600}
    text = ".".join(base64url(json.dumps(part).encode()) for part in ({"alg": "ES256"}, claims))
    r, s = decode_dss_signature(key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
    return f"{text}.{base64url(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def base64url(content: bytes) -> str:
    return urlsafe_b64encode(content).rstrip(b"=").decode()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A Vault that is open; a test that closes or stops it opens it again."""
    if not obtainable("vault"):
        pytest.skip("needs Go, or vault on the PATH")
    folder = tmp_path_factory.mktemp("kms")
    found = site_in(folder, ec.generate_private_key(ec.SECP256R1()))
    with found.running():
        found.begin()
        yield found


def site_in(folder: Path, tokens: ec.EllipticCurvePrivateKey) -> Site:
    found = Site(Kms(folder / "vault", "127.0.0.1", free_port()), tokens, folder)
    prepare(found.kms)
    return found


@pytest.fixture
def path(site: Site) -> Iterator[str]:
    """Where the gateway's key is; emptied after each test."""
    yield CLUSTER
    site.vault.secrets.kv.v2.delete_metadata_and_all_versions(CLUSTER, "zt-wireguard")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
