"""The server: its files, its program, and the key that opens it.

It keeps what it has in a folder, so that it may be stopped, sealed and started again. The key and
the root token lie beside it: this is a lab's, where nobody has anything to hide from anybody.
"""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hvac
import requests

from lab.cluster.certificates import authority, issue
from lab.cluster.model import INTERNET, LabError, Layout
from lab.mesh.folders import write_private
from lab.mesh.processes import Program
from lab.tools.build import tool

# In the lab's Internet, beside the clusters.
ADDRESS = str(INTERNET[30])
PORT = 8200
_HTTPS = 443
NAME = "vault"
# Whoever sets it up is outside the lab, and comes by a forwarded port.
_FORWARDED = "127.0.0.1"
_PATIENCE, _PAUSE = 30.0, 0.1


@dataclass(frozen=True, slots=True)
class Kms:
    """A Vault: all its files, and where it listens."""

    folder: Path
    address: str = ADDRESS
    port: int = PORT

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"https://{self.address}:{self.port}"

    @property
    def authority(self) -> Path:
        """The CA of its certificate, PEM."""
        return self.folder / "ca.crt"

    @property
    def secrets(self) -> Path:
        """The key that opens it, and the token that may do everything, once it was opened."""
        return self.folder / "opening.json"


def kms_of(layout: Layout) -> Kms:
    """The KMS of a lab, on the port of KMS in production."""
    return Kms(layout.kms, port=_HTTPS)


def prepare(kms: Kms) -> None:
    """Write its certificate and its configuration."""
    kms.folder.mkdir(parents=True, mode=0o700)
    ca = authority("kms")
    pair = issue(ca, "kms", names=(kms.address, _FORWARDED))
    write_private(kms.authority, ca.certificate_pem)
    write_private(kms.folder / "tls.crt", pair.certificate_pem)
    write_private(kms.folder / "tls.key", pair.key_pem)
    listener = {
        "address": f"{kms.address}:{kms.port}",
        "tls_cert_file": str(kms.folder / "tls.crt"),
        "tls_key_file": str(kms.folder / "tls.key"),
    }
    configuration = {
        "storage": {"file": {"path": str(kms.folder / "data")}},
        "listener": {"tcp": listener},
        "api_addr": kms.url,
        # It would ask for a right that not every machine gives.
        "disable_mlock": True,
    }
    write_private(kms.folder / "vault.json", json.dumps(configuration).encode())


def program(kms: Kms) -> Program:
    """The server's program, to be started where its address is."""
    return Program(
        name=NAME,
        command=(str(tool(NAME)), "server", f"-config={kms.folder / 'vault.json'}"),
        environment={
            "PATH": os.defpath,
            "HOME": str(kms.folder),
            # It parses a certificate of its own that today's Go refuses.
            "GODEBUG": "x509negativeserial=1",
        },
        stop=signal.SIGTERM,
    )


def client(kms: Kms) -> Any:  # noqa: ANN401 - hvac tells no types
    """A client that may do everything once Vault was opened, and nothing before."""
    made = hvac.Client(kms.url, verify=str(kms.authority), timeout=10)
    if kms.secrets.exists():
        made.token = json.loads(kms.secrets.read_text())["root_token"]
    return made


def secret_in(
    vault: Any,  # noqa: ANN401 - hvac tells no types
    project: str,
    path: str,
    version: int | None = None,
) -> dict[str, str]:
    """A version of a secret as a client reads it; without a number, the newest.

    Raises:
        InvalidPath: if there is none that is enabled.
        VaultError: if it is refused.
    """
    answer = vault.secrets.kv.v2.read_secret_version(
        path, version, project, raise_on_deleted_version=True
    )
    return dict(answer["data"]["data"])


def open_up(kms: Kms) -> None:
    """Wait until it answers, initialise it the first time, and unseal it.

    Raises:
        LabError: if it does not answer.
    """
    vault = client(kms)
    _await(vault, kms)
    if not vault.sys.is_initialized():
        made = vault.sys.initialize(secret_shares=1, secret_threshold=1)
        write_private(kms.secrets, json.dumps(made).encode())
    if vault.sys.is_sealed():
        vault.sys.submit_unseal_key(json.loads(kms.secrets.read_text())["keys"][0])


def seal(kms: Kms) -> None:
    """Lock it, as people would in an emergency."""
    client(kms).sys.seal()


def _await(vault: Any, kms: Kms) -> None:  # noqa: ANN401
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            vault.sys.read_health_status(method="GET")
        except requests.RequestException:
            if time.monotonic() > deadline:
                raise LabError(f"the KMS at {kms.url} does not answer") from None
            time.sleep(_PAUSE)
        else:
            return
