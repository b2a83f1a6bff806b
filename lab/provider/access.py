"""From a kubeconfig to an HTTP client that speaks to its API server."""

from __future__ import annotations

import base64
import ssl
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import httpx
import yaml

_TIMEOUT = httpx.Timeout(60.0, connect=30.0)
# The engine asks for so many objects at once.
_LIMITS = httpx.Limits(max_connections=32, max_keepalive_connections=32)


class AccessError(Exception):
    """The kubeconfig leads to no API server; the message is a sentence."""


def client(kubeconfig: str, context: str | None = None) -> httpx.Client:
    """A client by a kubeconfig: the path of one, or its text.

    Raises:
        AccessError: if there is none, or it says too little.
    """
    config = _parsed(kubeconfig)
    chosen = _named(config, "context", context or config.get("current-context", ""))
    cluster = _named(config, "cluster", chosen.get("cluster", ""))
    user = _named(config, "user", chosen.get("user", ""))
    return httpx.Client(
        base_url=cluster["server"],
        verify=_tls(cluster, user),
        headers=_authorization(user),
        timeout=_TIMEOUT,
        limits=_LIMITS,
        trust_env=False,  # a proxy for the Internet knows nothing of a cluster
    )


def _parsed(kubeconfig: str) -> Mapping[str, Any]:
    try:
        text = kubeconfig if "\n" in kubeconfig else Path(kubeconfig).read_text(encoding="utf-8")
        config = yaml.safe_load(text)
    except (OSError, yaml.YAMLError) as error:
        raise AccessError(f"no kubeconfig: {error}") from None
    if not isinstance(config, dict):
        raise AccessError(f"no kubeconfig: {kubeconfig}")
    return config


def _named(config: Mapping[str, Any], kind: str, name: str) -> Mapping[str, Any]:
    items: Iterable[Mapping[str, Any]] = config.get(f"{kind}s") or ()
    found = next((item[kind] for item in items if item.get("name") == name), None)
    if found is None:
        raise AccessError(f"the kubeconfig has no {kind} {name!r}")
    return dict(found)


def _authorization(user: Mapping[str, Any]) -> dict[str, str]:
    token = user.get("token")
    return {"Authorization": f"Bearer {token}"} if token else {}


def _tls(cluster: Mapping[str, Any], user: Mapping[str, Any]) -> ssl.SSLContext:
    """Python reads a client's key from files alone, so they are written for a moment."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            tls = ssl.create_default_context(
                cafile=_file(cluster, "certificate-authority", Path(folder))
            )
            certificate = _file(user, "client-certificate", Path(folder))
            if certificate:
                tls.load_cert_chain(certificate, _file(user, "client-key", Path(folder)))
    except (OSError, ValueError) as error:
        raise AccessError(f"the kubeconfig's certificates cannot be read: {error}") from None
    return tls


def _file(entry: Mapping[str, Any], name: str, folder: Path) -> str | None:
    """Where a certificate or key is, which the kubeconfig names or holds."""
    data = entry.get(f"{name}-data")
    if data is None:
        return entry.get(name)
    path = folder / name
    path.write_bytes(base64.b64decode(data))  # the folder is its owner's alone
    return str(path)
