"""From a kubeconfig to what a client needs: where its API server is, whom to trust, who asks."""

from __future__ import annotations

import base64
import ssl
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lab.cluster.model import LabError
from lab.mesh.folders import write_private


@dataclass(frozen=True, slots=True)
class Access:
    """An API server's URL, the TLS to speak with it, and the token to show, if there is one."""

    server: str
    tls: ssl.SSLContext
    token: str | None = None


def access(kubeconfig: str | Path, context: str | None = None) -> Access:
    """What a context of a kubeconfig says, or its current one.

    Args:
        kubeconfig: The path of one, or its text.
        context: Its name.

    Raises:
        LabError: if there is none, or it says too little.
    """
    config = _parsed(kubeconfig)
    chosen = _named(config, "context", context or config.get("current-context", ""))
    cluster = _named(config, "cluster", chosen.get("cluster", ""))
    user = _named(config, "user", chosen.get("user", ""))
    server = cluster.get("server")
    if not isinstance(server, str):
        raise LabError("the kubeconfig names no server of its cluster")
    return Access(server, _tls(cluster, user), user.get("token"))


def _parsed(kubeconfig: str | Path) -> Mapping[str, Any]:
    is_text = isinstance(kubeconfig, str) and "\n" in kubeconfig
    try:
        text = str(kubeconfig) if is_text else Path(kubeconfig).read_text(encoding="utf-8")
        config = yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise LabError(f"no kubeconfig: {error}") from None
    if not isinstance(config, dict):
        raise LabError("no kubeconfig" if is_text else f"no kubeconfig: {kubeconfig}")
    return config


def _named(config: Mapping[str, Any], kind: str, name: str) -> Mapping[str, Any]:
    items: Iterable[Mapping[str, Any]] = config.get(f"{kind}s") or ()
    found = next((item.get(kind) for item in items if item.get("name") == name), None)
    if not isinstance(found, dict):
        raise LabError(f"the kubeconfig has no {kind} {name!r}")
    return found


def _tls(cluster: Mapping[str, Any], user: Mapping[str, Any]) -> ssl.SSLContext:
    """Python reads a client's key from files alone, so they are written for a moment."""
    try:
        with tempfile.TemporaryDirectory(prefix="zt-lab-") as folder:
            authority = _file(cluster, "certificate-authority", Path(folder))
            tls = ssl.create_default_context(cafile=authority)
            certificate = _file(user, "client-certificate", Path(folder))
            if certificate:
                tls.load_cert_chain(certificate, _file(user, "client-key", Path(folder)))
    except (OSError, TypeError, ValueError) as error:
        raise LabError(f"the kubeconfig's certificates cannot be read: {error}") from None
    return tls


def _file(entry: Mapping[str, Any], name: str, folder: Path) -> str | None:
    """Where a certificate or key is, which the kubeconfig names or holds."""
    data = entry.get(f"{name}-data")
    if data is None:
        return entry.get(name)
    path = folder / name
    write_private(path, base64.b64decode(data))
    return str(path)
