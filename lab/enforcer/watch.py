"""Follows the objects of one API server: lists each collection, then watches it from there on.

Whatever breaks, the objects stay as they were last known, and the API is asked again; from a new
list where it no longer has what came since (410 Gone).
"""

from __future__ import annotations

import http.client
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import NoReturn

from lab.cluster.client import JSON, Client
from lab.cluster.model import LabError
from lab.enforcer.model import Cluster, Json, cluster_of

PODS = "/api/v1/pods"
NAMESPACES = "/api/v1/namespaces"
POLICIES = "/apis/networking.k8s.io/v1/networkpolicies"
# The server ends a watch by itself after so long; one that says nothing for longer is dead.
_SECONDS = 60
_SILENCE = 10.0
_SHORTEST, _LONGEST = 0.1, 2.0
_OK, _GONE = 200, 410

_log = logging.getLogger(__name__)


class WatchError(LabError):
    """The API refused, or could not be reached; ``status`` is HTTP's, or 0 without an answer."""

    def __init__(self, status: int, message: str) -> None:
        """Keep the status; the message is a sentence."""
        self.status = status
        super().__init__(message)


@dataclass(slots=True)
class Collection:
    """The objects of a collection by UID, as last known; ``changed`` is told of every change."""

    client: Client
    path: str
    changed: Callable[[], None]
    _objects: dict[str, Json] | None = None
    _version: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def objects(self) -> tuple[Json, ...] | None:
        """What there is; ``None`` before the first list."""
        with self._lock:
            return None if self._objects is None else tuple(self._objects.values())

    def step(self) -> None:
        """List if need be, then watch until the stream ends.

        Raises:
            WatchError: if either breaks; what came until then is kept.
        """
        if not self._version:
            self._list()
        try:
            for event in _events(self.client, self.path, self._version):
                self._take(event)
        except WatchError as error:
            if error.status == _GONE:
                self._version = ""
            raise

    def _list(self) -> None:
        (found,) = _lines(self.client, self.path)
        with self._lock:
            self._objects = {item["metadata"]["uid"]: item for item in found["items"] or ()}
        self._version = found["metadata"]["resourceVersion"]
        self.changed()

    def _take(self, event: Json) -> None:
        kind, item = event["type"], event["object"]
        if kind == "ERROR":
            raise WatchError(item.get("code", 0), f"the watch ended: {item.get('message')}")
        if kind != "BOOKMARK":
            with self._lock:
                assert self._objects is not None  # noqa: S101 - listed before it is watched
                self._objects.pop(item["metadata"]["uid"], None)
                if kind != "DELETED":
                    self._objects[item["metadata"]["uid"]] = item
            self.changed()
        self._version = item["metadata"]["resourceVersion"]


def follow(collection: Collection, sleep: Callable[[float], None] = time.sleep) -> NoReturn:
    """Follow a collection for ever; what breaks is tried again."""
    seconds = _SHORTEST
    while True:
        begun = time.monotonic()
        try:
            collection.step()
        except WatchError as error:
            if error.status != _GONE:
                _log.warning("%s stays as it was: %s", collection.path, error)
        steady = time.monotonic() - begun > _LONGEST
        seconds = _SHORTEST if steady else min(2 * seconds, _LONGEST)
        sleep(seconds)


@dataclass(frozen=True, slots=True)
class Watched:
    """A cluster that is followed by threads."""

    pods: Collection
    namespaces: Collection
    policies: Collection

    def cluster(self) -> Cluster | None:
        """The cluster as last known; ``None`` before all of it has been listed."""
        pods, spaces, policies = (
            item.objects() for item in (self.pods, self.namespaces, self.policies)
        )
        if pods is None or spaces is None or policies is None:
            return None
        return cluster_of(pods, spaces, policies)


def watched(client: Client, changed: Callable[[], None]) -> Watched:
    """Begin to follow an API server; ``changed`` is told by the threads that do."""
    patient = replace(client, patience=_SECONDS + _SILENCE)
    found = Watched(*(Collection(patient, path, changed) for path in (PODS, NAMESPACES, POLICIES)))
    for item in (found.pods, found.namespaces, found.policies):
        threading.Thread(target=follow, args=(item,), name=item.path, daemon=True).start()
    return found


def _events(client: Client, path: str, version: str) -> Iterator[Json]:
    asked = f"watch=1&timeoutSeconds={_SECONDS}&allowWatchBookmarks=true&resourceVersion={version}"
    return _lines(client, f"{path}?{asked}")


def _lines(client: Client, path: str) -> Iterator[Json]:
    """JSON objects, one a line, as they arrive."""
    connection = http.client.HTTPSConnection(
        client.host, client.port, timeout=client.patience, context=client.context
    )
    with closing(connection):
        try:
            connection.request("GET", path, headers={"Accept": JSON})
            response = connection.getresponse()
            if response.status != _OK:
                raise WatchError(response.status, f"the API answered {response.status}")
            for line in response:
                yield json.loads(line)
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise WatchError(0, f"the API cannot be reached: {error!r}") from None
