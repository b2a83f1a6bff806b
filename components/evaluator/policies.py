"""The policies as the evaluator reads them in the cluster: one ConfigMap, one key a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pulumi

from components.pods import metadata

POLICIES = "zt-policies"
_MOST_BYTES = 1 << 20


def policies_manifest(namespace: str, policies: Mapping[str, str]) -> dict[str, Any]:
    """The ConfigMap of the policy's files, by path.

    Raises:
        pulumi.RunError: if a ConfigMap can't hold them.
    """
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(POLICIES, namespace),
        "data": _by_key(policies),
    }


def _by_key(policies: Mapping[str, str]) -> dict[str, str]:
    """Texts by key; a key has no ``/``."""
    paths: dict[str, str] = {}
    for path in sorted(policies):
        key = path.replace("/", ".")
        if key in paths:
            raise pulumi.RunError(
                f"the policies {paths[key]} and {path} would have the same key {key} in ConfigMap"
                f" {POLICIES}: rename one of them"
            )
        paths[key] = path
    size = sum(len(key.encode()) + len(policies[path].encode()) for key, path in paths.items())
    if size > _MOST_BYTES:
        raise pulumi.RunError(
            f"the policies have {size:,} bytes, and ConfigMap {POLICIES} holds {_MOST_BYTES:,}:"
            " let rules name several sources and destinations at once, or shorten comments"
        )
    return {key: policies[path] for key, path in paths.items()}
