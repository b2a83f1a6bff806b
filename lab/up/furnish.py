"""What a stack finds in its cluster: the teams' namespaces, and the CAs that it refers to."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from lab.cluster.client import Client
from lab.cluster.model import LabError
from zt.wellknown import SPIRE_NAMESPACE

Json = dict[str, Any]

DEVELOPMENT_CA, NODE_CA = "spire-development-ca", "spire-node-ca"
_PATIENCE = 300.0


def authorities(files: Mapping[str, str]) -> tuple[Json, Json]:
    """The Secret with the issuing CA, and the ConfigMap with the CA of nodes elsewhere."""
    data = {name: base64.b64encode(text.encode()).decode() for name, text in files.items()}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": _named(DEVELOPMENT_CA)}
    nodes = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": _named(NODE_CA)}
    return {**secret, "data": data}, {**nodes, "data": {"ca.crt": files["bundle.crt"]}}


def _named(name: str) -> Json:
    return {"name": name, "namespace": SPIRE_NAMESPACE}


@contextmanager
def furnishing(api: Client, files: Mapping[str, str]) -> Iterator[None]:
    """Put the CAs into the namespace that the stack makes, as soon as it has made it.

    Raises:
        LabError: if they could not be put there, when the block ends.
    """
    problems: list[LabError | OSError] = []
    stop = threading.Event()

    def furnish() -> None:
        try:
            _put(api, files, stop)
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
        raise LabError(f"the CAs of SPIRE cannot be put into {SPIRE_NAMESPACE}: {problem}")


def _put(api: Client, files: Mapping[str, str], stop: threading.Event) -> None:
    api.wait(
        f"/api/v1/namespaces/{SPIRE_NAMESPACE}",
        lambda found: found is not None or stop.is_set(),
        _PATIENCE,
    )
    if stop.is_set():
        return
    secret, nodes = authorities(files)
    inside = f"/api/v1/namespaces/{SPIRE_NAMESPACE}"
    api.apply(f"{inside}/secrets/{DEVELOPMENT_CA}", secret)
    api.apply(f"{inside}/configmaps/{NODE_CA}", nodes)
