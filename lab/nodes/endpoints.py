"""Which pods the Services of a cluster lead to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from lab.cluster.client import Client

SLICES = "/apis/discovery.k8s.io/v1/endpointslices"

Json = dict[str, Any]


def left_out(api: Client) -> frozenset[str]:
    """Pods that a Service knows and does not lead to, by ``<namespace>/<name>``.

    Raises:
        OSError: if the API server does not answer.
    """
    return frozenset(left_out_of(api.get(SLICES)["items"]))


def left_out_of(slices: Iterable[Json]) -> Iterator[str]:
    """The same by EndpointSlices."""
    for item in slices:
        for endpoint in item.get("endpoints") or ():
            target = endpoint.get("targetRef", {})
            if target.get("kind") == "Pod" and not endpoint["conditions"].get("ready", True):
                yield f"{target['namespace']}/{target['name']}"
