"""From a kubeconfig to an HTTP client that speaks to its API server."""

from __future__ import annotations

import httpx

from lab.cluster.kubeconfig import access

_TIMEOUT = httpx.Timeout(60.0, connect=30.0)
# The engine asks for so many objects at once.
_LIMITS = httpx.Limits(max_connections=32, max_keepalive_connections=32)


def client(kubeconfig: str, context: str | None = None) -> httpx.Client:
    """A client by a kubeconfig: the path of one, or its text.

    Raises:
        LabError: if there is none, or it says too little.
    """
    found = access(kubeconfig, context)
    return httpx.Client(
        base_url=found.server,
        verify=found.tls,
        headers={"Authorization": f"Bearer {found.token}"} if found.token else {},
        timeout=_TIMEOUT,
        limits=_LIMITS,
        trust_env=False,  # a proxy for the Internet knows nothing of a cluster
    )
