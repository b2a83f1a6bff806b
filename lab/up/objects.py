"""Applies manifests as ``kubectl apply`` would, knowing where each kind has its place."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lab.cluster.client import Client

Json = dict[str, Any]


def apply_all(api: Client, manifests: Iterable[Json]) -> None:
    """Apply objects in their order.

    Raises:
        LabError: if the API refuses one.
    """
    for manifest in manifests:
        api.apply(path_of(manifest), manifest)


def path_of(manifest: Json) -> str:
    """Where an object is on the API server; its plural is that of ordinary English."""
    version, kind = manifest["apiVersion"], manifest["kind"].lower()
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    namespace = manifest["metadata"].get("namespace")
    where = f"/namespaces/{namespace}" if namespace else ""
    return f"{root}{where}/{_plural(kind)}/{manifest['metadata']['name']}"


def _plural(kind: str) -> str:
    if kind.endswith("y"):
        return kind[:-1] + "ies"
    return kind + ("es" if kind.endswith("s") else "s")
