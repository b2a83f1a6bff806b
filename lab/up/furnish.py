"""What a stack finds in its cluster beside the teams' namespaces: the CA that it refers to."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lab.cluster.client import Client
from lab.cluster.model import LabError
from zt.wellknown import SPIRE_NAMESPACE

Json = dict[str, Any]

NODE_CA = "spire-node-ca"
_PATIENCE = 300.0


def node_ca(certificate: str) -> Json:
    """The ConfigMap with the CA of nodes elsewhere, PEM."""
    metadata = {"name": NODE_CA, "namespace": SPIRE_NAMESPACE}
    found: Json = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}
    return {**found, "data": {"ca.crt": certificate}}


@contextmanager
def furnishing(api: Client, certificate: str) -> Iterator[None]:
    """Put the CA into the namespace that the stack makes, as soon as it has made it.

    Raises:
        LabError: if it could not be put there, when the block ends.
    """
    problems: list[LabError | OSError] = []
    stop = threading.Event()

    def furnish() -> None:
        try:
            _put(api, certificate, stop)
        except (LabError, OSError) as error:
            problems.append(error)

    thread = threading.Thread(target=furnish, name="furnish", daemon=True)
    thread.start()
    try:
        yield
    except BaseException:
        stop.set()
        raise
    thread.join(_PATIENCE)
    for problem in problems:
        raise LabError(f"the CA of nodes cannot be put into {SPIRE_NAMESPACE}: {problem}")


def _put(api: Client, certificate: str, stop: threading.Event) -> None:
    inside = f"/api/v1/namespaces/{SPIRE_NAMESPACE}"
    api.wait(inside, lambda found: found is not None or stop.is_set(), _PATIENCE)
    if not stop.is_set():
        api.apply(f"{inside}/configmaps/{NODE_CA}", node_ca(certificate))
