"""What is in a cluster before a stack comes, and must be there when it is gone."""

import json
import time
from collections.abc import Iterator, Mapping

import httpx

from lab.provider.cluster import patiently
from tests.lab.pulumi.small import Json, config_map, deployment, done, namespace_labels

NAMESPACES = ("hanzo", "lux", "monitoring")
# These change by themselves; or are an API server's own account of others.
_RESTLESS = frozenset({"componentstatuses", "events", "leases"})
_VOLATILE = ("managedFields", "resourceVersion")
# The garbage collector learns anew what there is whenever definitions go, and waits meanwhile.
_PATIENCE = 180.0
_PAUSE = 0.5
# So many seconds without a change are rest.
_STILL = 5.0


def settle(http: httpx.Client) -> Mapping[str, str]:
    """Make namespaces as their teams have them, with what runs there; return all there is."""
    for name in NAMESPACES:
        _create(http, "/api/v1/namespaces", namespace_labels(name, team=name))
        inside = f"/api/v1/namespaces/{name}"
        _create(http, f"{inside}/configmaps", config_map(name, "theirs", key="value"))
        _create(http, f"/apis/apps/v1/namespaces/{name}/deployments", deployment(name))
        _await_pods(http, name)
    return _still(http)


def everything(http: httpx.Client) -> Mapping[str, str]:
    """Each object of the cluster as JSON, without what each write changes."""
    return {
        f"{base}/{item['metadata'].get('namespace', '')}/{item['metadata']['name']}": _text(item)
        for base in _collections(http)
        for item in done(patiently(http, http.build_request("GET", base)))["items"]
    }


def _still(http: httpx.Client) -> Mapping[str, str]:
    """All there is, once it stays so: controllers of a new cluster are still making theirs."""
    deadline = time.monotonic() + _PATIENCE
    last, since = everything(http), time.monotonic()
    while time.monotonic() - since < _STILL:
        assert time.monotonic() < deadline, "the cluster does not come to rest"
        time.sleep(_PAUSE)
        if (now := everything(http)) != last:
            last, since = now, time.monotonic()
    return last


def assert_same(http: httpx.Client, before: Mapping[str, str], kept: frozenset[str]) -> None:
    """All is as it was, but for what is kept on purpose.

    What follows from a deletion by itself has some minutes to follow.
    """
    wanted = _without(before, kept)
    deadline = time.monotonic() + _PATIENCE
    while _without(after := everything(http), kept) != wanted and time.monotonic() < deadline:
        time.sleep(_PAUSE)
    found = _without(after, kept)
    assert not (left := sorted(found.keys() - wanted.keys())), f"the stack left {left}"
    assert not (gone := sorted(wanted.keys() - found.keys())), f"the stack took {gone} along"
    assert kept <= after.keys(), f"the stack took {sorted(kept - after.keys())} along"
    for path, text in wanted.items():
        assert found[path] == text, f"{path} was\n{text}\nand is\n{found[path]}"


def _without(objects: Mapping[str, str], kept: frozenset[str]) -> dict[str, str]:
    return {path: text for path, text in objects.items() if path not in kept}


def _create(http: httpx.Client, path: str, manifest: Json) -> None:
    answer = http.post(path, json=manifest)
    assert answer.is_success or answer.json()["reason"] == "AlreadyExists", answer.text


def _await_pods(http: httpx.Client, namespace: str) -> None:
    """Wait until the Deployment has its pod, and has seen so."""
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/postgres"
    deadline = time.monotonic() + _PATIENCE
    while done(http.get(path)).get("status", {}).get("updatedReplicas") != 1:
        assert time.monotonic() < deadline, f"{path} has no pod"
        time.sleep(_PAUSE)


def _collections(http: httpx.Client) -> Iterator[str]:
    """Paths of all kinds that can be listed."""
    groups = done(http.get("/apis"))["groups"]
    for base in (
        "/api/v1",
        *(f"/apis/{group['preferredVersion']['groupVersion']}" for group in groups),
    ):
        answer = http.get(base)
        # A definition that goes takes its API along in the same moment.
        for item in answer.json()["resources"] if answer.is_success else ():
            if "list" in item["verbs"] and item["name"] not in _RESTLESS:
                yield f"{base}/{item['name']}"


def _text(item: Json) -> str:
    metadata = {key: value for key, value in item["metadata"].items() if key not in _VOLATILE}
    return json.dumps({**item, "metadata": metadata}, sort_keys=True)
